package activities

import "context"

// LeaseInput names the machines that a rollout holds. Its leases have Holder as their
// description: by that, another attempt recognizes them.
type LeaseInput struct {
	Holder   string   `json:"holder"`
	Machines []Leased `json:"machines"`
}

// TakeLeases leases every machine, or none, as driver.TakeLeases does.
func (a *Activities) TakeLeases(ctx context.Context, in LeaseInput) ([]Leased, error) {
	ctx, stop := a.begin(ctx)
	defer stop()
	held, err := a.driver().TakeLeases(ctx, in.Holder, in.Machines)
	return held, classify(ctx, err)
}
