package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/microbima/release/release"
)

// ScanInput is one image, and the command that scans it.
type ScanInput struct {
	Source
	Name  string        `json:"name"` // of the build
	Image release.Image `json:"image"`
	Scan  release.Scan  `json:"scan"`
}

// ScanImage runs the scanner of a project on an image, in an exact checkout, which may
// have the settings of the scanner. Its environment has the reference of the image in
// IMAGE, and in IMAGE_LAYOUT a folder with the image as an OCI layout, because the
// scanner has no token for the registry. It fails with KindScan, and the result as
// details, if the exit code is not 0.
func (a *Activities) ScanImage(ctx context.Context, in ScanInput) (release.ScanResult, error) {
	result := release.ScanResult{Name: in.Name, Image: in.Image}
	captured, err := logFolder{a.Logs, &a.pruned}.capture(ctx, "scan-"+in.Name, func(out *output) error {
		return a.Git.Checkout(ctx, in.Repository, in.Revision.Commit, func(dir string) (err error) {
			layout, err := saveImage(ctx, a.Images, in.Image)
			if err != nil {
				return err
			}
			defer os.RemoveAll(layout)
			result.ExitCode, err = commandRunner{a.Logs, a.Environ}.run(ctx, dir, shellCommand{
				title: "scan of " + in.Name, run: in.Scan.Run, timeout: time.Duration(in.Scan.Timeout),
				env: []string{"IMAGE=" + string(in.Image), "IMAGE_LAYOUT=" + layout},
			}, out)
			return err
		})
	})
	result.Log, result.Took, result.Tail = captured.log, captured.took, captured.tail
	var failed *commandError
	if errors.As(err, &failed) {
		return result, permanentError(release.KindScan, fmt.Errorf("%w; %s was not released", failed, in.Image), result)
	}
	result.Passed = err == nil
	return result, classifyError(ctx, err)
}

// saveImage returns a new folder with an image in it. The caller removes the folder.
func saveImage(ctx context.Context, images Images, ref release.Image) (dir string, err error) {
	if dir, err = os.MkdirTemp("", "release-scan-"); err != nil || images == nil {
		return dir, err
	}
	if err := images.Save(ctx, ref, dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}
