package activities

import "context"

// LeaseInput names the machines to lease. Holder is the description of the leases, by
// which another attempt recognizes them.
type LeaseInput struct {
	Holder   string   `json:"holder"`
	Machines []Leased `json:"machines"`
}

// TakeLeases leases every machine, or none, with driver.TakeLeases.
func (a *Activities) TakeLeases(ctx context.Context, in LeaseInput) ([]Leased, error) {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	held, err := a.driver().TakeLeases(ctx, in.Holder, in.Machines)
	return held, classifyError(ctx, err)
}
