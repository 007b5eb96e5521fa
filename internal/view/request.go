package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// RequestTitle returns what a request asks for, in a line.
func RequestTitle(r release.Request) string {
	back := r.Rollback
	switch {
	case back == nil && len(r.Apps) > 0:
		return r.Revision.Label() + " (only " + strings.Join(r.Apps, ", ") + ")"
	case back == nil:
		return r.Revision.Label()
	case back.Revision.Commit != "":
		return back.Environment + " back to " + back.Revision.Label()
	case back.To != "":
		return back.Environment + " back to what " + Ref(back.To) + " left there"
	}
	return back.Environment + " back to what it ran before its last release"
}

// RequestDetails returns what the Temporal UI shows of a request, in Markdown.
func RequestDetails(r release.Request, path []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", Markdown(RequestTitle(r)))
	fmt.Fprintf(&b, "- path: %s\n- by: %s\n", Markdown(strings.Join(path, " → ")), Markdown(r.By))
	if r.Rollback == nil {
		fmt.Fprintf(&b, "- commit: %s", Code(r.Revision.Commit))
		if r.Revision.Author != "" {
			fmt.Fprintf(&b, " by %s", Markdown(r.Revision.Author))
		}
		b.WriteString("\n")
	} else if r.Rollback.Emergency {
		fmt.Fprintf(&b, "- emergency, the gate is passed: %s\n", Markdown(r.Rollback.Reason))
	}
	for _, app := range slices.Sorted(maps.Keys(r.Images)) {
		fmt.Fprintf(&b, "- image of %s: %s, not built\n", Markdown(app), Code(r.Images[app]))
	}
	for _, s := range r.Skip {
		fmt.Fprintf(&b, "- %s is skipped: %s\n", Markdown(s.Environment), Markdown(s.Reason))
	}
	fmt.Fprintf(&b, "- repository: %s\n", Code(r.Repository))
	return b.String()
}
