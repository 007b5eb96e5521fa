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

// Git has the operations on repositories that activities use. *git.Mirror implements
// it.
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

// ClientVersion is the client name in the metadata of machines, where flyctl writes its
// version.
const ClientVersion = fly.ClientVersion

// Types of the driver that inputs and results contain.
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

// A Docker builder builds Dockerfiles and runs the tests in them. *buildkit.Builder
// implements it.
type Docker interface {
	Builder
	// Test builds the Dockerfile up to the target of the recipe, and pushes nothing.
	// It fails as Build does.
	Test(ctx context.Context, src image.Source, req image.Request) error
}

// Temporal reads other workflows. client.Client implements it.
type Temporal interface {
	DescribeWorkflow(ctx context.Context, id, run string) (*client.WorkflowExecutionDescription, error)
	GetWorkflow(ctx context.Context, id, run string) client.WorkflowRun
	ListWorkflow(ctx context.Context, in *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
	GetWorkflowHistory(ctx context.Context, id, run string, isLongPoll bool, filter enumspb.HistoryEventFilterType) client.HistoryEventIterator
}

// Images reads and writes registries. *image.Registry implements it.
type Images interface {
	// Keep tags an image so that the registry does not delete it.
	Keep(ctx context.Context, ref release.Image) error
	// Pin returns the image for one platform that a registry has under a reference.
	Pin(ctx context.Context, ref, platform string) (release.Image, error)
	// Find returns the image under a tag if it was built from that revision and recipe.
	Find(ctx context.Context, repository, tag string, revision release.Revision, recipe release.Recipe) (image.Built, error)
	// Copy copies an image into another repository, under the same digest.
	Copy(ctx context.Context, from release.Image, repository string) (image.Built, error)
	// Save writes an image into an empty folder, as an OCI layout.
	Save(ctx context.Context, ref release.Image, dir string) error
	// Secrets returns the files in an image that hold secrets.
	Secrets(ctx context.Context, ref release.Image, tokens, allow []string) ([]string, error)
}

// Activities has the dependencies of all activities. Its methods are the activities.
type Activities struct {
	Fly      driver.API
	Temporal Temporal // nil: the client of the worker
	Git      Git
	Go       Builder      // for apps with go = "…"; nil: this worker builds none
	Docker   Docker       // for Dockerfiles; nil: this worker builds none
	Images   Images       // nil: no image is found, copied or kept
	Registry string       // host to which images are pushed: registry.fly.io
	Insecure bool         // the registry speaks plain HTTP: that of release dev
	Logs     string       // folder for the output of tests and builds; "": only its end is kept
	Edge     *http.Client // sends probes; nil is one that reaches public addresses only
	// Poll is the interval of reads while an activity waits for a machine; 0 is 1s.
	Poll time.Duration
	// Tokens are secrets of the worker that no image may contain.
	Tokens []string
	// Environ is the environment of the worker, as "NAME=value". testEnviron selects
	// the variables that tests get.
	Environ []string

	memory driver.Memory
	pruned atomic.Int64 // time of the last pruning of logs, in Unix seconds
}

// driver returns a driver with the dependencies and the memory of a.
func (a *Activities) driver() *driver.Driver {
	return &driver.Driver{Fly: a.Fly, Edge: a.Edge, Poll: a.Poll, Memory: &a.memory}
}

// temporal returns a.Temporal, or the client of the worker.
func (a *Activities) temporal(ctx context.Context) Temporal {
	if a.Temporal != nil {
		return a.Temporal
	}
	return activity.GetClient(ctx)
}
