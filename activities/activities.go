package activities

import (
	"context"
	"io/fs"
	"net/http"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// Git is what activities need of git. *git.Mirror implements it.
type Git interface {
	// Files returns the tree of commit, read-only.
	Files(ctx context.Context, url, commit string) (fs.FS, error)
	// Identity returns what distinguishes the repository from others.
	Identity(ctx context.Context, url, commit string) (release.Repository, error)
	// Checkout calls fn with a folder that holds exactly that commit, and
	// removes it afterwards.
	Checkout(ctx context.Context, url, commit string, fn func(dir string) error) error
	// Lineage returns how commit relates to the running commits, by ancestry.
	Lineage(ctx context.Context, url, commit string, running []string) (release.Lineage, error)
}

// ClientVersion is what the metadata of a machine has for the client that changed it,
// where flyctl writes its version.
const ClientVersion = fly.ClientVersion

// Types of the driver that are parts of inputs and results.
type (
	TargetRef   = driver.TargetRef
	Expectation = driver.Expectation
	Leased      = driver.Leased
	Written     = driver.Written
	FlyRelease  = driver.FlyRelease
)

// A Builder turns a checkout into a pushed image with a digest.
type Builder interface {
	// Ready returns why that recipe cannot be built here, or nil.
	Ready(ctx context.Context, recipe release.Recipe) error
	// Build fails with an *image.BuildError if a retry would fail in the same way.
	Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error)
}

// A Docker builder builds Dockerfiles, and runs the tests in them. *buildkit.Builder
// is one.
type Docker interface {
	Builder
	// Test builds the Dockerfile up to the target of the recipe, and pushes nothing.
	// It fails as Build does.
	Test(ctx context.Context, src image.Source, req image.Request) error
}

// Temporal is what activities need of Temporal itself: reading other workflows.
// client.Client implements it.
type Temporal interface {
	DescribeWorkflow(ctx context.Context, id, run string) (*client.WorkflowExecutionDescription, error)
	GetWorkflow(ctx context.Context, id, run string) client.WorkflowRun
	ListWorkflow(ctx context.Context, in *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
	GetWorkflowHistory(ctx context.Context, id, run string, isLongPoll bool, filter enumspb.HistoryEventFilterType) client.HistoryEventIterator
}

// Images is what activities need of registries. *image.Registry implements it.
type Images interface {
	// Keep tags an image so that the registry does not delete it.
	Keep(ctx context.Context, ref release.Image) error
	// Pin returns the image for one platform that a registry has under a reference.
	Pin(ctx context.Context, ref, platform string) (release.Image, error)
	// Find returns what was pushed under a tag for that revision and recipe.
	Find(ctx context.Context, repository, tag string, revision release.Revision, recipe release.Recipe) (image.Built, error)
	// Copy copies an image into another repository, under the same digest.
	Copy(ctx context.Context, from release.Image, repository string) (image.Built, error)
	// Save writes an image into an empty folder, as an OCI layout.
	Save(ctx context.Context, ref release.Image, dir string) error
	// Secrets returns the files in an image that hold secrets.
	Secrets(ctx context.Context, ref release.Image, tokens, allow []string) ([]string, error)
}

// Activities holds what the activities share. Wiring is an assignment.
type Activities struct {
	Fly      driver.API
	Temporal Temporal // nil: the client of the worker
	Git      Git
	Go       Builder      // for apps with go = "…"; nil: this worker has none
	Docker   Docker       // for Dockerfiles; nil: this worker has none
	Images   Images       // reads and writes registries; nil: nothing is found, copied or kept
	Registry string       // where images are pushed: registry.fly.io
	Insecure bool         // the registry speaks plain HTTP: that of release dev
	Logs     string       // folder for the output of tests and builds; "": only its end is kept
	Edge     *http.Client // sends probes; nil is one that reaches public addresses only
	// Poll is how often a machine is read while it is waited for; 0 is 1s.
	Poll time.Duration
	// Tokens are values that no image may hold: Fly's, for instance.
	Tokens []string
	// Environ is what tests may see of the worker's environment, as
	// "NAME=value". Never a token: see testEnviron.
	Environ []string

	memory driver.Memory
	pruned atomic.Int64 // when logs were pruned last, in Unix seconds
}

func (a *Activities) driver() *driver.Driver {
	return &driver.Driver{Fly: a.Fly, Edge: a.Edge, Poll: a.Poll, Memory: &a.memory}
}

func (a *Activities) temporal(ctx context.Context) Temporal {
	if a.Temporal != nil {
		return a.Temporal
	}
	return activity.GetClient(ctx)
}
