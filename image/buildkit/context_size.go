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

// noteLargeContext adds a note with the largest folders if the files that BuildKit
// requests are large. It is called before they are sent. Most large contexts are a
// mistake.
func (s *solve) noteLargeContext(name string, requested *fsutil.FilterOpt) error {
	if name != "context" {
		return nil
	}
	files, err := s.files.contextFS()
	if err != nil {
		return err
	}
	filter := *requested
	if files, err = fsutil.NewFilterFS(files, &filter); err != nil {
		return err
	}
	var total int64
	sizes := map[string]int64{} // by the first two elements of a path
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
		sizes[strings.Join(parts[:min(2, len(parts))], "/")] += info.Size()
		return nil
	})
	if err != nil || total < s.largeContext {
		return err
	}
	largest := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int { return int(min(1, max(-1, sizes[b]-sizes[a]))) })
	var list []string
	for _, path := range largest[:min(5, len(largest))] {
		list = append(list, fmt.Sprintf("%s %s", path, formatBytes(sizes[path])))
	}
	s.addNote(fmt.Sprintf("%s of files are sent to BuildKit (%s): exclude files that the image doesn't need with .dockerignore", formatBytes(total), strings.Join(list, ", ")))
	return nil
}

// addNote adds a note to the result and writes it to the log.
func (s *solve) addNote(note string) {
	s.log.println(note)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if !slices.Contains(s.notes, note) {
		s.notes = append(s.notes, note)
	}
}

func formatBytes(n int64) string {
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
