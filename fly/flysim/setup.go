package flysim

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/rawjson"
)

// Open reads the journal, if it exists, and starts the machines that ran when
// it was written. The first request calls it as well; call it to get its error.
func (s *Sim) Open() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.state.Apps = map[string]*app{}
		s.changedApps, s.counts, s.limiters = map[string]bool{}, map[string]int{}, map[string]*limiter{}
		s.timers, s.lastRoutes = map[*int]Timer{}, map[string][]Backend{}
		if s.Journal != "" {
			s.openErr = s.readState(s.Journal)
		}
		s.settleAndUnlock()
	})
	return s.openErr
}

// Close stops all processes, checks, timers and waits. The journal keeps the
// machines, so that another Sim can continue.
func (s *Sim) Close() {
	_ = s.Open()
	s.mu.Lock()
	s.closed = true
	var procs []Process
	for _, a := range s.state.Apps {
		for _, m := range a.Machines {
			if m.proc != nil {
				procs = append(procs, m.proc)
			}
		}
	}
	for _, t := range s.timers {
		t.Stop()
	}
	s.mu.Unlock()
	s.cancel()
	for _, p := range procs {
		s.goroutines.Go(func() { _ = p.Stop(context.Background(), "SIGTERM", 2*time.Second) })
	}
	s.goroutines.Wait()
}

// CreateApp creates an app without machines; org "" is personal. An existing
// app is left unchanged.
func (s *Sim) CreateApp(name, org string) {
	s.withState(func() {
		if s.state.Apps[name] == nil {
			s.newApp(name, org)
		}
	})
}

// Put adds machines to an app, which is created if necessary. Defaults for
// empty fields: the machine is started, its checks pass, and it gets an ID. A
// machine with an existing ID replaces the other.
func (s *Sim) Put(appName string, machines ...fly.Machine) {
	s.withState(func() {
		a := s.state.Apps[appName]
		if a == nil {
			a = s.newApp(appName, "")
		}
		a.Status = "deployed"
		for _, v := range machines {
			s.putMachine(a, v)
		}
	})
}

func (s *Sim) putMachine(a *app, v fly.Machine) {
	if len(v.Config) == 0 {
		v.Config = json.RawMessage(`{}`)
	}
	m := s.newMachine(a, v)
	if old := a.Machines[m.View.ID]; old != nil {
		old.generation++
	}
	a.Machines[m.View.ID] = m
	c := m.config()
	if m.View.ImageRef.Repository == "" && c.Image != "" {
		m.View.ImageRef, _ = s.resolveImage(c.Image)
	}
	_ = s.attachVolumes(a, m) // v may name volumes that do not exist
	if len(m.View.Events) == 0 {
		s.addEvent(m, "launch", "created", "user", nil)
		if m.View.State == "started" {
			s.addEvent(m, "start", "started", "flyd", nil)
		}
	}
	s.markChanged(m)
	if s.Runner != nil && m.View.State == "started" {
		s.schedule(m, 0, func() { s.launchMachine(m, "starting") })
		return
	}
	if m.View.State == "started" && m.View.Checks == nil {
		for _, k := range c.checks() {
			s.recordCheck(m, k.name, "passing", "200 OK")
		}
	}
}

// SetSecrets sets secrets of an app, which is created if necessary. Machines
// get them with their next update.
func (s *Sim) SetSecrets(appName string, values map[string]string) {
	s.withState(func() {
		a := s.state.Apps[appName]
		if a == nil {
			a = s.newApp(appName, "")
		}
		changed := map[string]*string{}
		for k, v := range values {
			changed[k] = &v
		}
		s.setSecrets(a, changed)
	})
}

// FailChecks makes a machine's checks critical until its next update.
func (s *Sim) FailChecks(appName, id, output string) {
	s.withMachine(appName, id, func(m *machine) {
		m.Behaviour, m.HasFault = Behaviour{NeverHealthy: true, CheckOutput: output}, true
		for _, k := range m.config().checks() {
			s.recordCheck(m, k.name, "critical", output)
		}
	})
}

// Heal ends the effects of faults on a machine, present and scheduled: it
// starts, its process does not end, its checks pass from now on.
func (s *Sim) Heal(appName, id string) {
	s.withMachine(appName, id, func(m *machine) {
		ill := m.Behaviour
		m.Behaviour, m.HasFault = Behaviour{}, true
		if ill.NeverStarts && isTransient(m.View.State) {
			s.launchMachine(m, m.View.State)
			return
		}
		for _, k := range m.config().checks() {
			s.recordCheck(m, k.name, "passing", "200 OK")
		}
	})
}

// withMachine calls f with the lock held if the machine exists.
func (s *Sim) withMachine(appName, id string, f func(*machine)) {
	s.withState(func() {
		if a := s.state.Apps[appName]; a != nil && a.Machines[id] != nil {
			f(a.Machines[id])
		}
	})
}

func (s *Sim) withState(f func()) {
	if s.Open() != nil {
		return
	}
	s.withLock(f)
}

// Machines returns the machines of an app, sorted by ID, without destroyed
// ones.
func (s *Sim) Machines(appName string) []fly.Machine {
	var out []fly.Machine
	s.withState(func() {
		if a := s.state.Apps[appName]; a != nil {
			for _, m := range a.sortedMachines() {
				if m.View.State != "destroyed" {
					v := m.apiView()
					v.Checks, v.Events = slices.Clone(v.Checks), slices.Clone(v.Events)
					out = append(out, v)
				}
			}
		}
	})
	return out
}

// Releases returns the Fly releases of an app, oldest first.
func (s *Sim) Releases(appName string) []fly.FlyRelease {
	var out []fly.FlyRelease
	s.withState(func() {
		if a := s.state.Apps[appName]; a != nil {
			for _, r := range a.Releases {
				out = append(out, r.FlyRelease)
			}
		}
	})
	return out
}

// Leases returns the unexpired leases of an app, by machine ID.
func (s *Sim) Leases(appName string) map[string]fly.Lease {
	out := map[string]fly.Lease{}
	s.withState(func() {
		if a := s.state.Apps[appName]; a != nil {
			for id, m := range a.Machines {
				if l := m.activeLease(s.now()); l != nil {
					out[id] = fly.Lease{Nonce: l.Nonce, Owner: l.Owner, Description: l.Description, Version: l.Version, Expires: l.Expires}
				}
			}
		}
	})
	return out
}

// SetAddresses gives an app, which is created if necessary, an address of each
// kind: v4, v6, shared_v4, private_v6.
func (s *Sim) SetAddresses(appName string, kinds ...string) {
	s.withState(func() {
		a := s.state.Apps[appName]
		if a == nil {
			a = s.newApp(appName, "")
		}
		for _, kind := range kinds {
			_, _ = s.assignAddress(a, kind, "") // fails only for an unknown kind
		}
	})
}

// appURL returns the URL of an app. Fly returns one also for an app without a
// public address, where the name does not resolve. A new app, without addresses
// and machines, gets the URL that it will have.
func (s *Sim) appURL(name string) string {
	a := s.state.Apps[name]
	isNew := a != nil && len(a.IPs) == 0 && len(a.Machines) == 0
	if s.Runner != nil && (s.isPublic(name) || isNew) {
		if u := s.Runner.URL(name); u != "" {
			return u
		}
	}
	return "https://" + name + ".fly.dev"
}

// incompleteConfig returns the part of a config that Fly returns while the host
// is unreachable. It lacks fields, so that no machine is created from it.
func incompleteConfig(config []byte) []byte {
	var doc map[string]json.RawMessage
	if json.Unmarshal(config, &doc) != nil {
		return config
	}
	delete(doc, "env")
	delete(doc, "files")
	return rawjson.MustMarshal(doc)
}

// encodeMachine returns a machine's JSON with its config unchanged, which the
// encoder would reformat. As in Fly's API it has both config and
// incomplete_config, and the one that does not apply is null.
func encodeMachine(v fly.Machine) []byte {
	whole, part := v.Config, v.IncompleteConfig
	v.Config, v.IncompleteConfig = nil, nil
	type plain fly.Machine
	out := rawjson.MustMarshal(struct {
		plain
		Version string `json:"version"`
	}{plain(v), v.InstanceID})
	out = append(bytes.TrimSuffix(out, []byte("}")), `,"config":`...)
	out = append(append(out, orNull(whole)...), `,"incomplete_config":`...)
	return append(append(out, orNull(part)...), '}')
}

func orNull(doc json.RawMessage) []byte {
	if len(doc) == 0 {
		return []byte("null")
	}
	return doc
}

// isTransient reports whether a machine in that state is about to run.
func isTransient(state string) bool {
	return slices.Contains([]string{"creating", "starting", "restarting", "replacing", "updating"}, state)
}
