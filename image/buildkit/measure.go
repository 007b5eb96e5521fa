package buildkit

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tonistiigi/fsutil"
)

// measure looks at what BuildKit asks of the context, before it is sent, and
// notes what is large: most of that is there by mistake.
func (s *solve) measure(name string, asked *fsutil.FilterOpt) error {
	if name != "context" {
		return nil
	}
	files, err := s.files.context()
	if err != nil {
		return err
	}
	only := *asked
	if files, err = fsutil.NewFilterFS(files, &only); err != nil {
		return err
	}
	var total int64
	below := map[string]int64{} // by the first two elements of a path
	err = files.Walk(context.Background(), "", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		parts := strings.SplitN(filepath.ToSlash(path), "/", 3)
		below[strings.Join(parts[:min(2, len(parts))], "/")] += info.Size()
		return nil
	})
	if err != nil || total < s.large {
		return err
	}
	biggest := slices.SortedFunc(maps.Keys(below), func(a, b string) int { return int(min(1, max(-1, below[b]-below[a]))) })
	var words []string
	for _, path := range biggest[:min(5, len(biggest))] {
		words = append(words, fmt.Sprintf("%s %s", path, bytesText(below[path])))
	}
	s.note(fmt.Sprintf("%s of files go to BuildKit (%s): keep out what the image doesn't need with .dockerignore", bytesText(total), strings.Join(words, ", ")))
	return nil
}

// note is for the result, and for the log at once.
func (s *solve) note(words string) {
	s.log.say(words)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if !slices.Contains(s.notes, words) {
		s.notes = append(s.notes, words)
	}
}

func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}
