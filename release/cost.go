package release

// DollarsPerMillion is the list price of Temporal Cloud for a million actions.
const DollarsPerMillion = 50.0

// A Cost counts the events in the histories of a release's workflows, and what
// Temporal Cloud would count as actions.
type Cost struct {
	Events  int `json:"events"`
	Actions int `json:"actions"`
	// Heartbeats are part of the actions. They are estimated: they leave no event.
	Heartbeats int `json:"heartbeats"`
}

// Plus returns the sum of c and d.
func (c Cost) Plus(d Cost) Cost {
	return Cost{Events: c.Events + d.Events, Actions: c.Actions + d.Actions, Heartbeats: c.Heartbeats + d.Heartbeats}
}

// Dollars returns the price at DollarsPerMillion.
func (c Cost) Dollars() float64 { return float64(c.Actions) * DollarsPerMillion / 1e6 }
