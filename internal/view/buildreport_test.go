package view_test

import (
	"testing"
	"time"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// withBuilds is a release with a built, a reused and a failed image, and with scans.
func withBuilds() release.Status {
	s := status()
	s.Revision.Time = at(-3600)
	s.Environments[0].CopiedBytes = 593
	s.Builds = []release.BuildResult{
		{
			App: "internal-api", RecipeText: "infra/fly/internal-api/Dockerfile", Image: newAPI, Took: release.Duration(21 * time.Second), PushedBytes: 24_100_000, Log: "logs/build.log",
			Provenance: &release.Provenance{
				Type: "https://slsa.dev/provenance/v1", Builder: "https://builds.example.com/7", Started: at(1), Finished: at(22),
				Materials: []release.Material{
					{URI: "pkg:docker/golang@1.26.8-bookworm?platform=linux%2Famd64", Digest: "sha256:5555"},
					{URI: "https://example.com/some.tar.gz", Digest: "sha256:6666"},
				},
			},
			Notes: []string{"the context is 1.2 GB: node_modules 900 MB"},
		},
		{App: "web-admin/staging", RecipeText: "go ./apps/web-admin", Image: newWeb, Took: release.Duration(200 * time.Millisecond), Reused: true},
		{App: "web-admin/production", RecipeText: "infra/fly/web-admin/production/Dockerfile up to lean", Took: release.Duration(3 * time.Second), Tail: "no such base\n"},
	}
	s.Scans = []release.ScanResult{
		{Name: "internal-api", Image: newAPI, Passed: true, Took: release.Duration(4 * time.Second)},
		{Name: "web-admin/staging", Image: newWeb, ExitCode: 1, Took: release.Duration(5 * time.Second), Tail: "CVE-2026-1: critical\n"},
	}
	return s
}

func TestBuildReport(t *testing.T) {
	golden(t, "build_report", view.BuildReport(withBuilds(), at(90), view.Style{}))
}

// The report has the output of a failed scan.
func TestReport_FailedScan(t *testing.T) {
	s := withBuilds()
	s.Phase, s.Outcome = release.Done, release.Stopped
	s.Gate, s.Ended = nil, at(70)
	s.Cause = &release.Cause{Message: "scan of web-admin/staging: exit code 1"}
	golden(t, "report_scan_failed", view.Report(s, "", at(71), view.Style{}))
}

func TestLog_ScansAndReusedImages(t *testing.T) {
	s := withBuilds()
	var events []release.Event
	for _, b := range s.Builds[1:] {
		events = append(events, release.BuildFinished(b))
	}
	for _, scan := range s.Scans {
		events = append(events, release.ScanFinished(scan))
	}
	golden(t, "lines_images", logText(new(view.Log), "run-1", events...))
}
