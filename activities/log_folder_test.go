package activities

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// Old outputs are removed, so that the disk does not fill up. Running activities keep
// theirs.
func TestLogFolder_RemovesOldLogs(t *testing.T) {
	now := time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)
	file := func(days int, size int) *fstest.MapFile {
		return &fstest.MapFile{Data: make([]byte, size), ModTime: now.Add(-time.Duration(days) * 24 * time.Hour)}
	}
	files := fstest.MapFS{
		"logs/release/shop/1/a/test.log": file(100, 1), "logs/release/shop/2/a/test.log": file(30, 50),
		"logs/release/shop/3/a/test.log": file(20, 50), "logs/release/shop/4/a/test.log": file(0, 80),
		"git/x": file(300, 1),
	}
	for limit, want := range map[int64][]string{
		1000: {"logs/release/shop/1/a/test.log"},
		150:  {"logs/release/shop/1/a/test.log", "logs/release/shop/2/a/test.log"},
		10:   {"logs/release/shop/1/a/test.log", "logs/release/shop/2/a/test.log", "logs/release/shop/3/a/test.log"},
	} {
		if got := oldLogs(files, now, limit); !slices.Equal(got, want) {
			t.Errorf("with a limit of %d: %v are removed, want %v", limit, got, want)
		}
	}
}

// A long output is cut in the middle: its head and its end are kept.
func TestOutput_TooLongKeepsHeadAndTail(t *testing.T) {
	name := filepath.Join(t.TempDir(), "test.log")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	out := &output{file: file}
	line := []byte(strings.Repeat("x", 1<<16-1) + "\n")
	if _, err := out.Write([]byte("the first line\n")); err != nil {
		t.Fatal(err)
	}
	for range (maxOutput + 16<<20) / len(line) {
		if n, err := out.Write(line); n != len(line) || err != nil {
			t.Fatalf("wrote %d: %v", n, err)
		}
	}
	fmt.Fprintln(out, "the last line")
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) > maxOutput+maxEnd+200 || len(kept) < maxOutput+maxEnd/2 {
		t.Errorf("%d bytes are kept", len(kept))
	}
	if !bytes.HasPrefix(kept, []byte("the first line\n")) || !bytes.HasSuffix(kept, []byte("\nthe last line\n")) || !bytes.Contains(kept, []byte(" bytes are left out here: more than 64 MB are not kept …\n")) {
		t.Errorf("head, tail or the line between them is missing")
	}
}
