package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/microbima/release/fly"
)

// A ledger is the journal of a flysim in another process, including destroyed machines.
type ledger struct {
	Apps map[string]kept `json:"apps"`
}

// kept is the part of the journal about one app.
type kept struct {
	Machines map[string]keptMachine `json:"machines"`
	Releases []fly.FlyRelease       `json:"releases"`
}

type keptMachine struct {
	View   fly.Machine `json:"view"`
	Config string      `json:"config"` // as in the request
	Former []string    `json:"former"` // earlier versions
	Lease  *struct {
		Description string    `json:"description"`
		Expires     time.Time `json:"expires"`
	} `json:"lease"`
}

func readLedger(file string) (l ledger, err error) {
	doc, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(doc, &l)
	}
	if err != nil {
		err = fmt.Errorf("read what flysim knows: %w", err)
	}
	for _, a := range l.Apps {
		for id, m := range a.Machines {
			m.View.Config = json.RawMessage(m.Config)
			a.Machines[id] = m
		}
	}
	return l, err
}

// unsettled reports whether a machine of these apps is leased or being destroyed.
func (l ledger) unsettled(apps []string) bool {
	for _, app := range apps {
		for _, m := range l.Apps[app].Machines {
			if m.held() || m.View.State == "destroying" {
				return true
			}
		}
	}
	return false
}

// live returns the existing machines by ID.
func (k kept) live() (live []keptMachine) {
	for _, m := range k.Machines {
		if m.View.State != "destroyed" {
			live = append(live, m)
		}
	}
	slices.SortFunc(live, func(a, b keptMachine) int { return cmp.Compare(a.View.ID, b.View.ID) })
	return live
}

// held reports whether the machine has a valid lease.
func (m keptMachine) held() bool { return m.Lease != nil && time.Now().Before(m.Lease.Expires) }

func (m keptMachine) metadata() map[string]string { return m.View.Metadata() }
