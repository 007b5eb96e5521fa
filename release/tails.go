package release

import (
	"strings"
	"unicode/utf8"
)

// maxTailBytes is how many bytes the ends of all outputs in a status have together: a
// status is stored as one value and shown as a whole. Large outputs are in the
// logs of workers.
const maxTailBytes = 256 << 10

const omittedTail = "… left out here: the outputs of this release are too long together; its log has it …"

// BoundTails shortens the ends of outputs in s to maxTails together: first those of
// what passed, in their order, then all that are left, equally.
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

// lastBytes returns the last n bytes of s, or a few less: it splits no rune.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	return strings.TrimLeftFunc(s, func(r rune) bool { return r == utf8.RuneError })
}
