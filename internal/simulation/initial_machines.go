package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/config"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// createInitialMachines creates the Fly apps and their machines at v1, as they are
// before the first release.
func (s *simulation) createInitialMachines() error {
	files, err := memoryGit{s.Case}.Files(context.Background(), "", commitOf("v1"))
	if err != nil {
		return err
	}
	p, _, err := config.Load(files)
	if err != nil {
		return err
	}
	for i, e := range p.Environments {
		for _, t := range e.Targets {
			a, env, _ := s.findApp(t.FlyApp)
			s.fly.CreateApp(t.FlyApp, "")
			if !env.Empty && slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Service }) {
				s.fly.SetAddresses(t.FlyApp, "v6", "shared_v4")
			}
			if a.Secret {
				s.fly.SetSecrets(t.FlyApp, map[string]string{"KEY": "1"})
			}
			if env.Empty {
				continue
			}
			spec, err := config.Spec(p, t, release.Image("registry.fly.io/"+flyAppOf(p.Environments[0].Name, a.Name)+"@"+a.imageDigest("v1")), release.State{Target: t.Target})
			if err != nil {
				return err
			}
			for _, g := range spec.Groups {
				group, _ := a.findGroup(g.Name)
				if err := s.createGroup(i, t.FlyApp, group, g.New[0].Config.Doc); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// createGroup creates the machines of a group.
func (s *simulation) createGroup(environment int, flyAppName string, g Group, config json.RawMessage) error {
	var first string
	for i, initial := range g.Machines {
		id := fmt.Sprintf("%02x%s", environment, hexHash(fmt.Sprint(flyAppName, g.Name, i))[:12])
		m := fly.Machine{ID: id, Name: fmt.Sprintf("%s-%d", g.Name, i), Region: "ams", Config: config, State: initial.State, Cordoned: initial.Cordoned}
		if g.Volume {
			v, err := s.newFlyClient(s.fly.Transport()).CreateVolume(context.Background(), flyAppName, fly.NewVolume{Name: "data", Region: "ams", SizeGB: 1})
			if err != nil {
				return err
			}
			m.Config = setVolume(m.Config, v.ID)
		}
		if i == 0 {
			first = id
		}
		if initial.Crashed {
			m.Events = crashEvents(time.Now())
		}
		if g.Standby && i > 0 && i == len(g.Machines)-1 {
			m.State, m.Config = "stopped", setStandby(m.Config, first)
		}
		s.fly.Put(flyAppName, m)
		if initial.Failing && m.State == "started" {
			s.fly.FailChecks(flyAppName, id, "failing before the release")
		}
	}
	return nil
}

// crashEvents returns the events of a machine whose process failed at that time and
// that Fly no longer restarts, newest first.
func crashEvents(at time.Time) []fly.Event {
	exit := &fly.EventRequest{ExitEvent: &fly.ExitEvent{ExitCode: 3, ExitedAt: at}, RestartCount: 10}
	return []fly.Event{
		{Type: "exit", Status: "stopped", Source: "flyd", Timestamp: at.UnixMilli(), Request: exit},
		{Type: "start", Status: "started", Source: "flyd", Timestamp: at.Add(-time.Second).UnixMilli()},
		{Type: "launch", Status: "created", Source: "user", Timestamp: at.Add(-time.Minute).UnixMilli()},
	}
}

// setVolume returns the config with the volume in its first mount.
func setVolume(config json.RawMessage, id string) json.RawMessage {
	return editConfig(config, func(doc map[string]any) {
		if mounts, ok := doc["mounts"].([]any); ok && len(mounts) > 0 {
			if m, ok := mounts[0].(map[string]any); ok {
				m["volume"], m["name"], m["size_gb"], m["encrypted"] = id, "data", 1, true // as Fly returns it
			}
		}
	})
}

// setStandby returns the config of a standby of the primary machine.
func setStandby(config json.RawMessage, primary string) json.RawMessage {
	return editConfig(config, func(doc map[string]any) {
		doc["standbys"] = []string{primary}
		env, _ := doc["env"].(map[string]any)
		if env == nil {
			env = map[string]any{}
		}
		env["FLY_STANDBY_FOR"] = primary
		doc["env"] = env
	})
}

// editConfig returns the config after f has changed it.
func editConfig(config json.RawMessage, f func(map[string]any)) json.RawMessage {
	doc := map[string]any{}
	if err := json.Unmarshal(config, &doc); err != nil {
		panic(err) // it is one of ours
	}
	f(doc)
	out, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return out
}
