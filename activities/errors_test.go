package activities

import (
	"errors"
	"fmt"
	"testing"

	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// The kind of a driver error is the type of the application error, and its failure is
// the details.
func TestClassify_DriverErrors(t *testing.T) {
	f := release.Failure{Target: release.Target{App: "api", Environment: "staging"}, Machine: "m1", Reason: "could not be started"}
	for name, test := range map[string]struct {
		err        error
		kind       string
		hasDetails bool
	}{
		"a failure has its evidence":                {&driver.Error{Kind: release.KindFailure, Err: f}, release.KindFailure, true},
		"a conflict has its evidence":               {&driver.Error{Kind: release.KindConflict, Err: f}, release.KindConflict, true},
		"a step that does not exist is refused":     {&driver.Error{Kind: release.KindPermanent, Err: errors.New("no such step")}, release.KindPermanent, false},
		"a request that Fly rejects is refused":     {fmt.Errorf("update: %w", fly.ErrInvalid), release.KindPermanent, false},
		"an answer that is too long is too large":   {fly.ErrTooLong, release.KindTooLarge, false},
		"a conflict beside other errors is retried": {errors.Join(&driver.Error{Kind: release.KindConflict, Err: f}, errors.New("lease not released")), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := classifyError(t.Context(), test.err)
			var app *temporal.ApplicationError
			if !errors.As(err, &app) {
				if test.kind != "" {
					t.Fatalf("got %v, want kind %s", err, test.kind)
				}
				return
			}
			var got release.Failure
			if app.Type() != test.kind || !app.NonRetryable() || app.HasDetails() != test.hasDetails {
				t.Fatalf("got %s, non-retryable %t, details %t", app.Type(), app.NonRetryable(), app.HasDetails())
			}
			if test.hasDetails && (app.Details(&got) != nil || got.Machine != f.Machine || app.Message() != f.Error()) {
				t.Errorf("got %+v with message %q", got, app.Message())
			}
		})
	}
}
