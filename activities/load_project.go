package activities

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/microbima/release/config"
	"github.com/microbima/release/release"
)

// A Source is a commit and its repository.
type Source struct {
	Repository string           `json:"repository"`
	Revision   release.Revision `json:"revision"`
}

// LoadInput is a commit, and the protocol of the program that started the release.
type LoadInput struct {
	Source
	Protocol int    `json:"protocol"`
	Rollback bool   `json:"rollback,omitempty"` // the revision is not built
	Moved    string `json:"moved,omitempty"`    // why the project has another repository now
}

// LoadProject reads release.toml and the fly.toml files at the revision. It fails
//   - with KindConfig and every mistake in them at once;
//   - with KindConfig and the files that no image can be built of (Git LFS pointers,
//     submodules), unless it is for a rollback;
//   - with KindTooLarge if Temporal could not hold them;
//   - with KindConfig if worker and caller speak different protocols. This is checked
//     here and not in the workflow, whose worker may be upgraded while it is open;
//   - with KindPermanent if the project belongs to another repository.
func (a *Activities) LoadProject(ctx context.Context, in LoadInput) (release.Project, error) {
	defer startHeartbeat(ctx)()
	if err := release.CheckProtocol(in.Protocol, "program that asked"); err != nil {
		return release.Project{}, permanentError(release.KindConfig, fmt.Errorf("worker: %w", err))
	}
	files, err := a.Git.Files(ctx, in.Repository, in.Revision.Commit)
	if err != nil {
		return release.Project{}, classifyError(ctx, err)
	}
	project, _, err := config.Load(files)
	if err != nil {
		return release.Project{}, permanentError(release.KindConfig, err)
	}
	if !in.Rollback {
		if err := checkLeftOut(ctx, files, project, in.Revision); err != nil {
			return release.Project{}, err
		}
	}
	if err := checkProjectSize(project); err != nil {
		return release.Project{}, err
	}
	project.BoundRepository, err = checkRepository(ctx, a.Git, a.temporal(ctx), project.Name, in)
	return *project, err
}

// checkLeftOut returns an error of KindConfig that names the files of the revision that
// a checkout does not contain.
func checkLeftOut(ctx context.Context, files fs.FS, project *release.Project, revision release.Revision) error {
	mistakes, err := config.CheckLeftOut(files, project)
	if err != nil {
		return classifyError(ctx, err)
	}
	if len(mistakes) > 0 {
		return permanentError(release.KindConfig, fmt.Errorf("nothing can be built of %s:\n%w", revision.Short(), mistakes))
	}
	return nil
}
