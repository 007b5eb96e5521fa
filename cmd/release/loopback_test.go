package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/microbima/release/internal/cli"
)

// loopback asserts that the running release dev and its machines listen on loopback
// only, with at least that many listeners: loopback 9.
func loopback(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: loopback MINIMUM")
	}
	least, err := strconv.Atoi(args[0])
	ts.Check(err)
	if runtime.GOOS != "linux" {
		ts.Logf("loopback is skipped: it needs /proc")
		return
	}
	var dev cli.DevFile
	doc, err := os.ReadFile(filepath.Join(ts.Getenv("WORK"), ".home", "state", "release", cli.DevFileName))
	ts.Check(err)
	ts.Check(json.Unmarshal(doc, &dev))
	sockets := map[string]bool{}
	for _, pid := range descendants(dev.PID) {
		fds, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			sockets[to] = true
		}
	}
	found := 0
	for _, table := range []string{"tcp", "tcp6"} {
		doc, _ := os.ReadFile("/proc/net/" + table)
		for line := range strings.Lines(string(doc)) {
			field := strings.Fields(line)
			if len(field) < 10 || field[3] != "0A" || !sockets["socket:["+field[9]+"]"] {
				continue // not a listener, or of another process
			}
			found++
			if address, _, _ := strings.Cut(field[1], ":"); address != "0100007F" && address != "00000000000000000000000001000000" {
				ts.Fatalf("something of release dev listens beyond loopback: on %s (hex)", field[1])
			}
		}
	}
	if found < least {
		ts.Fatalf("found only %d listeners of release dev and its machines, want %d", found, least)
	}
}

// descendants returns a process and all its descendants.
func descendants(pid int) []int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		doc, _ := os.ReadFile(path) // it may be gone
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if end := bytes.LastIndexByte(doc, ')'); end > 0 {
			if field := strings.Fields(string(doc[end+1:])); len(field) > 1 {
				parents[child], _ = strconv.Atoi(field[1])
			}
		}
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		for child, parent := range parents {
			if parent == all[i] {
				all = append(all, child)
			}
		}
	}
	return all
}
