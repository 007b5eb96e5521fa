package release

import (
	"strings"
	"unicode/utf8"
)

// maxTailBytes limits the total size of the output tails in a status, which Temporal
// stores as one value. Workers keep the whole outputs.
const maxTailBytes = 256 << 10

const omittedTail = "… left out here: the outputs of this release are too long; see its log …"

// BoundTails shortens the output tails in s to maxTailBytes in total: first those of
// jobs that passed, in order, then all others equally.
func (s *Status) BoundTails() {
	var passed, failed []*string
	add := func(tail *string, ok bool) {
		if ok {
			passed = append(passed, tail)
		} else {
			failed = append(failed, tail)
		}
	}
	for i := range s.Tests {
		add(&s.Tests[i].Tail, s.Tests[i].Passed)
	}
	for i := range s.Builds {
		add(&s.Builds[i].Tail, s.Builds[i].Image != "")
	}
	for i := range s.Scans {
		add(&s.Scans[i].Tail, s.Scans[i].Passed)
	}
	all := append(passed, failed...)
	over := -maxTailBytes
	for _, tail := range all {
		over += len(*tail)
	}
	for _, tail := range passed {
		if over > 0 && len(*tail) > len(omittedTail) {
			over -= len(*tail) - len(omittedTail)
			*tail = omittedTail
		}
	}
	if over <= 0 {
		return
	}
	for _, tail := range all {
		*tail = lastBytes(*tail, maxTailBytes/len(all))
	}
}

// lastBytes returns the last n bytes of s, or up to 3 fewer, so that it splits no rune.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	return strings.TrimLeftFunc(s, func(r rune) bool { return r == utf8.RuneError })
}
