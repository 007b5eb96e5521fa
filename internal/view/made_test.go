package view_test

import (
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// made is a release whose images were built, found, scanned and refused.
func made() release.Status {
	s := status()
	s.Revision.Time = at(-3600)
	s.Environments[0].Copied = 593
	s.Builds = []release.BuildResult{
		{
			App: "internal-api", From: "infra/fly/internal-api/Dockerfile", Image: newAPI, Took: release.Duration(21 * time.Second), Bytes: 24_100_000, Log: "logs/build.log",
			Provenance: &release.Provenance{
				Type: "https://slsa.dev/provenance/v1", Builder: "https://builds.example.com/7", Started: at(1), Finished: at(22),
				Materials: []release.Material{
					{URI: "pkg:docker/golang@1.26.8-bookworm?platform=linux%2Famd64", Digest: "sha256:5555"},
					{URI: "https://example.com/some.tar.gz", Digest: "sha256:6666"},
				},
			},
			Notes: []string{"the context is 1.2 GB: node_modules 900 MB"},
		},
		{App: "web-admin/staging", From: "go ./apps/web-admin", Image: newWeb, Took: release.Duration(200 * time.Millisecond), Found: true},
		{App: "web-admin/production", From: "infra/fly/web-admin/production/Dockerfile up to lean", Took: release.Duration(3 * time.Second), Tail: "no such base\n"},
	}
	s.Scans = []release.ScanResult{
		{Name: "internal-api", Image: newAPI, Passed: true, Took: release.Duration(4 * time.Second)},
		{Name: "web-admin/staging", Image: newWeb, ExitCode: 1, Took: release.Duration(5 * time.Second), Tail: "CVE-2026-1: critical\n"},
	}
	return s
}

func TestMade(t *testing.T) {
	golden(t, "made", view.Made(made(), at(90), view.Style{}))
}

// What a scanner found is in the report, with its words.
func TestAScanThatFailedIsEvidence(t *testing.T) {
	s := made()
	s.Phase, s.Gate, s.Outcome, s.Ended = release.Done, nil, release.Stopped, at(70)
	s.Cause = &release.Cause{Message: "scan of web-admin/staging: exit code 1"}
	golden(t, "report_scan_failed", view.Report(s, release.Cost{}, at(71), view.Style{}))
}

func TestLinesTellOfScansAndOfImagesThatWereThere(t *testing.T) {
	before := made()
	after := made()
	before.Builds, before.Scans = before.Builds[:1], nil
	golden(t, "lines_images", strings.Join(view.Lines(before, after), "\n")+"\n")
}
