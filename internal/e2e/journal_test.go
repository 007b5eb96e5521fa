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

// A flyJournal is the journal of a flysim in another process, including destroyed
// machines.
type flyJournal struct {
	Apps map[string]appJournal `json:"apps"`
}

// appJournal is the part of the journal about one app.
type appJournal struct {
	Machines map[string]machineJournal `json:"machines"`
	Releases []fly.FlyRelease          `json:"releases"`
}

type machineJournal struct {
	View   fly.Machine `json:"view"`
	Config string      `json:"config"` // as in the request
	Former []string    `json:"former"` // earlier versions
	Lease  *struct {
		Description string    `json:"description"`
		Expires     time.Time `json:"expires"`
	} `json:"lease"`
}

func readJournal(file string) (l flyJournal, err error) {
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

// isUnsettled reports whether a machine of these apps is leased or being destroyed.
func (l flyJournal) isUnsettled(apps []string) bool {
	for _, app := range apps {
		for _, m := range l.Apps[app].Machines {
			if m.isLeased() || m.View.State == "destroying" {
				return true
			}
		}
	}
	return false
}

// liveMachines returns the existing machines by ID.
func (k appJournal) liveMachines() (live []machineJournal) {
	for _, m := range k.Machines {
		if m.View.State != "destroyed" {
			live = append(live, m)
		}
	}
	slices.SortFunc(live, func(a, b machineJournal) int { return cmp.Compare(a.View.ID, b.View.ID) })
	return live
}

// isLeased reports whether the machine has a valid lease.
func (m machineJournal) isLeased() bool { return m.Lease != nil && time.Now().Before(m.Lease.Expires) }

func (m machineJournal) metadata() map[string]string { return m.View.Metadata() }
