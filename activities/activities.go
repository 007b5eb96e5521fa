package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// Fly is what activities need of Fly. *fly.Client has it.
type Fly interface {
	App(ctx context.Context, app string) (fly.App, error)
	Secrets(ctx context.Context, app string) ([]fly.Secret, error)
	Logs(ctx context.Context, app, machine string) ([]fly.LogLine, error)
	Machines(ctx context.Context, app string) ([]fly.Machine, error)
	AllMachines(ctx context.Context, app string) ([]fly.Machine, error) // destroyed ones, too
	Machine(ctx context.Context, app, id string) (fly.Machine, error)
	Processes(ctx context.Context, app, id string) ([]fly.Process, error)
	Create(ctx context.Context, app string, in fly.Create) (fly.Machine, error)
	Update(ctx context.Context, app, id string, in fly.Update) (fly.Machine, error)
	Start(ctx context.Context, app, id, nonce string) error
	Stop(ctx context.Context, app, id, nonce string) error
	Cordon(ctx context.Context, app, id, nonce string) error
	Uncordon(ctx context.Context, app, id, nonce string) error
	Destroy(ctx context.Context, app, id, nonce string) error
	Wait(ctx context.Context, app, id string, w fly.Wait) error
	TakeLease(ctx context.Context, app, id, description string, ttl time.Duration) (fly.Lease, error)
	Lease(ctx context.Context, app, id, nonce string, ttl time.Duration) (fly.Lease, error)
	ReadLease(ctx context.Context, app, id string) (fly.Lease, error)
	ReleaseLease(ctx context.Context, app, id, nonce string) error
	Volumes(ctx context.Context, app string) ([]fly.Volume, error)
	CreateVolume(ctx context.Context, app string, in fly.NewVolume) (fly.Volume, error)
	Addresses(ctx context.Context, app string) ([]fly.Address, error)
	AssignAddress(ctx context.Context, app, kind string) (fly.Address, error)
	ReleaseAddress(ctx context.Context, app, ip string) error
	SecretsVersion(ctx context.Context, app string) (uint64, error)
	CreateRelease(ctx context.Context, in fly.NewRelease) (fly.FlyRelease, error)
	UpdateRelease(ctx context.Context, id, status, errText string) error
	Releases(ctx context.Context, app string) ([]fly.FlyRelease, error)
}

// Git is what activities need of git. *git.Mirror has it.
type Git interface {
	// Files is the tree of commit, read-only.
	Files(ctx context.Context, url, commit string) (fs.FS, error)
	// Identity tells the repository from others.
	Identity(ctx context.Context, url, commit string) (release.Repository, error)
	// Checkout calls fn with a folder that holds exactly that commit, and
	// removes it after.
	Checkout(ctx context.Context, url, commit string, fn func(dir string) error) error
	// Lineage is how commit relates to the running commits, by ancestry.
	Lineage(ctx context.Context, url, commit string, running []string) (release.Lineage, error)
}

// ClientVersion is what machines say of the client that changed them, where
// flyctl writes its version.
const ClientVersion = fly.ClientVersion

// A Builder turns a checkout into a pushed image with a digest.
type Builder interface {
	// Ready says why nothing can be built of that recipe here, or nil.
	Ready(ctx context.Context, recipe release.Recipe) error
	// Build fails with an *image.BuildError where trying again would end the
	// same way.
	Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error)
}

// A Docker builder makes images of Dockerfiles, and runs the tests in them.
// *buildkit.Builder is one.
type Docker interface {
	Builder
	// Test carries out the part of the Dockerfile that the recipe ends with, and
	// pushes nothing. It fails as Build does.
	Test(ctx context.Context, src image.Source, req image.Request) error
}

// Temporal is what activities ask of Temporal itself: about other workflows.
// client.Client has it.
type Temporal interface {
	DescribeWorkflow(ctx context.Context, id, run string) (*client.WorkflowExecutionDescription, error)
	GetWorkflow(ctx context.Context, id, run string) client.WorkflowRun
	ListWorkflow(ctx context.Context, in *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
	GetWorkflowHistory(ctx context.Context, id, run string, isLongPoll bool, filter enumspb.HistoryEventFilterType) client.HistoryEventIterator
}

// Activities holds what the activities share. Wiring is an assignment.
type Activities struct {
	Fly      Fly
	Temporal Temporal // nil: the one that the worker works for
	Git      Git
	Go       Builder      // for apps that say go = "…"; nil: this worker has none
	Docker   Docker       // for Dockerfiles; nil: this worker has none
	Images   Images       // what registries are asked; nil: nothing is found, copied or kept
	Registry string       // where images are pushed: registry.fly.io
	Insecure bool         // the registry speaks plain HTTP: a laptop's
	Logs     string       // folder where the output of tests and builds is kept; "": only its end is
	Edge     *http.Client // for probes; nil is one with a timeout of 10s
	// Poll is how often a machine is looked at while it is waited for; 0 is 1s.
	Poll time.Duration
	// Tokens are values that no image may hold: Fly's, for instance.
	Tokens []string
	// Environ is what tests may see of the worker's environment, as
	// "NAME=value". Never a token: see testEnviron.
	Environ []string

	pace    pace
	keepers keepers
	pruned  atomic.Int64 // when logs were pruned last, in Unix seconds
}

func (a *Activities) temporal(ctx context.Context) Temporal {
	if a.Temporal != nil {
		return a.Temporal
	}
	return activity.GetClient(ctx)
}

func (a *Activities) poll() time.Duration { return cmp.Or(a.Poll, time.Second) }

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refused is an error that time will not cure.
func refused(kind string, err error, details ...any) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), kind, err, details...)
}

// classify tells Temporal which answers of Fly and git time will not cure. The rest
// is tried again, later and later: after looking, because every activity looks
// first. How much later is said here and not by the retry policy, which is also
// about workers that died: what they had in hand must begin again at once,
// however often it was tried before.
func classify(ctx context.Context, err error) error {
	var app *temporal.ApplicationError
	switch {
	case err == nil, errors.As(err, &app):
		return err
	case errors.Is(err, fly.ErrInvalid), errors.Is(err, fly.ErrNotFound), errors.Is(err, fly.ErrUnauthorized),
		errors.Is(err, git.ErrUnknown), errors.Is(err, git.ErrUnsafe), errors.Is(err, git.ErrNotRepository), isVerdict(err):
		return refused(release.KindRefused, err)
	case errors.Is(err, fly.ErrTooLong):
		return tooLarge(fmt.Errorf("%w: the machines of one Fly app, with their configs, are more than this program reads; make the files in the configs smaller, or split the app", err))
	}
	if ctx.Err() != nil {
		return err // whoever ended it says what follows
	}
	later := later(activity.GetInfo(ctx))
	var answer *fly.Error
	if errors.As(err, &answer) && answer.RetryAfter > 0 {
		later = answer.RetryAfter
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), "", temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: later})
}

// later is how long after this attempt the next may be made. Of tests and builds
// there are ten, in some five minutes.
func later(attempt activity.Info) time.Duration {
	first, growth, most := time.Second, 1.5, 15*time.Second
	if attempt.TaskQueue == release.BuildQueue {
		first, growth, most = 2*time.Second, 2, time.Minute
	}
	return time.Duration(min(float64(first)*math.Pow(growth, float64(attempt.Attempt-1)), float64(most)))
}
