package activities

import (
	"context"
	"time"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// VerifyInput has the expected states, and how long to verify them.
type VerifyInput struct {
	Expectations []Expectation    `json:"expectations"`
	For          release.Duration `json:"for,omitempty"` // 0: until the verdicts are certain
	// Within is how long a target may take to become as expected. An unhealthy target
	// may become healthy meanwhile, when Fly's proxy learns of its machines.
	Within release.Duration `json:"within,omitempty"`
}

// Verify returns one verdict per target with driver.Verify. It changes nothing.
func (a *Activities) Verify(ctx context.Context, in VerifyInput) ([]release.Verdict, error) {
	ctx, stop := a.beginWaitingAttempt(ctx)
	defer stop()
	return a.driver().Verify(ctx, driver.Verification{
		Expectations: in.Expectations, For: time.Duration(in.For), Within: time.Duration(in.Within),
	})
}
