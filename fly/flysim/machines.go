package flysim

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/microbima/release/fly"
)

// machineInput is the body of a create or an update.
type machineInput struct {
	Config                  json.RawMessage `json:"config"`
	Region                  string          `json:"region"`
	Name                    string          `json:"name"`
	SkipLaunch              bool            `json:"skip_launch"`
	SkipServiceRegistration bool            `json:"skip_service_registration"`
	MinSecretsVersion       uint64          `json:"min_secrets_version"`
	LeaseTTL                int             `json:"lease_ttl"`
	CurrentVersion          string          `json:"current_version"`
}

// decodeMachineInput decodes and validates the body of a create or an update.
func (s *Sim) decodeMachineInput(c *call) (in machineInput, ref fly.ImageRef, err error) {
	if err := c.decodeBody(&in); err != nil {
		return in, ref, err
	}
	var parsed config
	if len(in.Config) == 0 || json.Unmarshal(in.Config, &parsed) != nil {
		return in, ref, newAPIError(http.StatusBadRequest, "invalid config: it is missing or not a machine config")
	}
	if parsed.Image == "" {
		return in, ref, newAPIError(http.StatusBadRequest, "invalid config.image: missing")
	}
	if in.MinSecretsVersion > c.app.SecretsVersion {
		return in, ref, newAPIError(http.StatusPreconditionFailed, "secrets version %d does not exist yet", in.MinSecretsVersion)
	}
	switch c.effect() {
	case NoCapacity:
		return in, ref, &apiError{status: http.StatusInternalServerError, code: "insufficient_capacity",
			text: "could not reserve resource for machine: insufficient resources available to fulfill request"}
	case HostClosed:
		return in, ref, &apiError{status: http.StatusPreconditionFailed, code: "failed_precondition",
			text: "deploys to this host are temporarily disabled"}
	}
	ref, ok := s.resolveImage(parsed.Image)
	if !ok || c.effect() == ImageGone {
		return in, ref, newAPIError(http.StatusUnprocessableEntity, "image %s: manifest unknown", parsed.Image)
	}
	return in, ref, nil
}

func (s *Sim) createMachine(c *call) (any, error) {
	in, ref, err := s.decodeMachineInput(c)
	if err != nil {
		return nil, err
	}
	for _, other := range c.app.Machines {
		if in.Name != "" && other.View.Name == in.Name && other.View.State != "destroyed" {
			return nil, &apiError{status: http.StatusUnprocessableEntity, code: "name_taken", text: "machine name " + in.Name + " is taken"}
		}
	}
	m := s.newMachine(c.app, fly.Machine{Name: in.Name, Region: in.Region, State: "created", ImageRef: ref,
		Cordoned: in.SkipServiceRegistration, Config: c.app.describeMounts(in.Config)})
	if err := s.attachVolumes(c.app, m); err != nil {
		return nil, err
	}
	c.app.Machines[m.View.ID] = m
	s.addEvent(m, "launch", "created", "user", nil)
	s.setState(m, "created")
	s.applyVersionEffect(c, m)
	v := m.apiView()
	if in.LeaseTTL > 0 {
		m.Lease = s.newLease(m, time.Duration(in.LeaseTTL)*time.Second)
		v.Nonce = m.Lease.Nonce
	}
	if in.SkipLaunch {
		s.schedule(m, 0, func() { s.setState(m, "stopped") })
	} else {
		s.schedule(m, 0, func() { s.launchMachine(m, "starting") })
	}
	return v, nil
}

// newMachine returns a machine with defaults for the fields that v leaves
// empty.
func (s *Sim) newMachine(a *app, v fly.Machine) *machine {
	v.ID = cmp.Or(v.ID, s.newID("machine", 14))
	v.Name = cmp.Or(v.Name, "machine-"+v.ID[:min(6, len(v.ID))])
	v.Region = cmp.Or(v.Region, "fra")
	v.State = cmp.Or(v.State, "started")
	v.InstanceID = cmp.Or(v.InstanceID, s.newVersionID())
	v.HostStatus = cmp.Or(v.HostStatus, "ok")
	v.PrivateIP = cmp.Or(v.PrivateIP, "fdaa:0:1:a7b:1:"+s.newID("ip", 4)+":"+s.newID("ip", 4)+":2")
	if v.CreatedAt.IsZero() {
		v.CreatedAt = s.now()
	}
	v.UpdatedAt = s.now()
	m := &machine{View: v, Config: string(v.Config), History: VersionHistory{Version: v.InstanceID}, app: a, changed: make(chan struct{}), Secrets: a.secretValues()}
	m.View.Config = nil
	return m
}

func (s *Sim) updateMachine(c *call) (any, error) {
	m := c.machine
	in, ref, err := s.decodeMachineInput(c)
	if err != nil {
		return nil, err
	}
	if in.CurrentVersion != "" && in.CurrentVersion != m.View.InstanceID {
		return nil, &apiError{status: http.StatusPreconditionFailed, code: "failed_precondition",
			text: "current_version " + in.CurrentVersion + " is not the machine's version " + m.View.InstanceID}
	}
	if in.Region != "" && in.Region != m.View.Region {
		return nil, newAPIError(http.StatusBadRequest, "a machine can't move to another region")
	}
	if m.View.State == "destroying" {
		return nil, newAPIError(http.StatusPreconditionFailed, "machine is being destroyed")
	}
	if !keepsVolumes(m.config(), in.Config) {
		return nil, newAPIError(http.StatusBadRequest, "invalid config.mounts: a machine can't get another volume")
	}
	before, beforeRef, down := m.Config, m.View.ImageRef, in.SkipLaunch
	s.replaceVersion(m, string(c.app.describeMounts(in.Config)), ref, down)
	s.applyVersionEffect(c, m)
	if c.effect() == Reverts {
		s.beforeUnlock = append(s.beforeUnlock, func() {
			s.setVersion(m, before, beforeRef)
			if !down {
				s.launchMachine(m, "replacing")
			}
		})
	}
	return m, nil
}

func (s *Sim) listMachines(c *call) (any, error) {
	if c.effect() == Stale {
		return s.staleMachines(c), nil
	}
	out := []*machine{}
	q := c.r.URL.Query()
	deleted := q.Get("include_deleted") == "true"
	for _, m := range c.app.sortedMachines() {
		if m.View.State == "destroyed" && !deleted || s.isHidden(m) {
			continue
		}
		if r := q.Get("region"); r != "" && r != m.View.Region {
			continue
		}
		if st := q.Get("state"); st != "" && st != m.View.State {
			continue
		}
		if matchesMetadata(m.config().Metadata, q) {
			out = append(out, m)
		}
	}
	return out, nil
}

// matchesMetadata reports whether metadata has the values of the metadata.{key}
// parameters.
func matchesMetadata(metadata map[string]string, q map[string][]string) bool {
	for k, v := range q {
		if key, ok := strings.CutPrefix(k, "metadata."); ok && metadata[key] != v[0] {
			return false
		}
	}
	return true
}

func (a *app) sortedMachines() []*machine {
	out := make([]*machine, 0, len(a.Machines))
	for _, id := range slices.Sorted(maps.Keys(a.Machines)) {
		out = append(out, a.Machines[id])
	}
	return out
}

func (s *Sim) getMachine(c *call) (any, error) {
	if c.effect() == Stale && s.now().Before(c.machine.staleUntil) {
		return c.machine.previous, nil
	}
	return c.machine, nil
}

func (s *Sim) destroyMachine(c *call) (any, error) {
	m := c.machine
	force := c.queryParam("force") == "true" || c.queryParam("kill") == "true"
	if !force && !slices.Contains([]string{"stopped", "suspended", "created", "failed"}, m.View.State) {
		return nil, newAPIError(http.StatusPreconditionFailed, "machine is %s: stop it first, or use force", m.View.State)
	}
	if m.View.State != "destroying" {
		s.beginDestroy(m)
	}
	return okReply(), nil
}

func (s *Sim) startMachine(c *call) (any, error) {
	m := c.machine
	before := m.View.State
	switch before {
	case "started", "starting", "restarting", "replacing":
	case "destroying", "stopping", "suspending":
		return nil, newAPIError(http.StatusPreconditionFailed, "unable to start machine from current state: '%s'", before)
	default:
		m.Restarts = 0
		s.addEvent(m, "start", "starting", "user", nil)
		s.launchMachine(m, "starting")
	}
	return map[string]any{"previous_state": before, "migrated": false, "new_host": ""}, nil
}

func (s *Sim) stopMachine(c *call) (any, error) {
	var in struct {
		Signal  string   `json:"signal"`
		Timeout duration `json:"timeout"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	m := c.machine
	switch m.View.State {
	case "stopped", "stopping", "created", "failed", "destroying":
	case "suspended":
		s.setState(m, "stopped")
	default:
		s.addEvent(m, "stop", "stopping", "user", nil)
		s.beginStop(m, "stopping", in.Signal, time.Duration(in.Timeout), func(code int) { s.finishStop(m, code) })
	}
	return okReply(), nil
}

func (s *Sim) suspendMachine(c *call) (any, error) {
	if c.machine.View.State == "started" {
		s.beginSuspend(c.machine, "user")
	}
	return okReply(), nil
}

// beginSuspend suspends m. flysim keeps no memory: only the state differs from
// stopped.
func (s *Sim) beginSuspend(m *machine, source string) {
	s.addEvent(m, "suspend", "suspending", source, nil)
	s.beginStop(m, "suspending", "", 0, func(int) { s.setState(m, "suspended") })
}

func (s *Sim) restartMachine(c *call) (any, error) {
	m := c.machine
	timeout, _ := strconv.Atoi(c.queryParam("timeout"))
	if m.View.State == "destroying" {
		return nil, newAPIError(http.StatusPreconditionFailed, "machine is being destroyed")
	}
	s.addEvent(m, "restart", "restarting", "user", nil)
	m.Restarts = 0
	s.beginStop(m, "restarting", c.queryParam("signal"), time.Duration(timeout)*time.Second, func(int) { s.launchMachine(m, "restarting") })
	return okReply(), nil
}

func (s *Sim) signalMachine(c *call) (any, error) {
	m := c.machine
	if m.View.State != "started" {
		return nil, newAPIError(http.StatusPreconditionFailed, "machine is not started")
	}
	s.endProcess(m, 0, "SIGKILL", time.Second, func(int) { s.handleExit(m, 137) })
	return okReply(), nil
}

func (s *Sim) cordonMachine(c *call) (any, error) {
	m := c.machine
	m.View.Cordoned = strings.HasSuffix(c.route.pattern, "/cordon")
	s.markChanged(m)
	return okReply(), nil
}

func (s *Sim) execMachine(*call) (any, error) {
	return map[string]any{"exit_code": 0, "stdout": "", "stderr": ""}, nil
}

func okReply() any { return map[string]bool{"ok": true} }
