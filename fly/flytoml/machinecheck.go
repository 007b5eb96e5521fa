package flytoml

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/internal/rawjson"
)

// CheckGroup is the process group of the machines that run machine checks.
const CheckGroup = fly.MachineProcessGroupFlyAppTestMachineCommand

// A testCommand is a machine_checks section: a command that runs on a machine
// of its own to test another.
type testCommand struct {
	image      string
	command    []string
	entrypoint []string
	stop       fly.StopConfig
	processes  []string // empty: every group
}

// machineCheckConfigs returns the configs of the machines that test a machine
// of group once it runs the new version: one for each machine_checks section of
// the group, in the order of http_service, services and the top of the file.
// tested is the config of the tested machine, privateIP its address, which the
// command gets in FLY_TEST_MACHINE_IP.
//
// Each is to be created and started in the region of the tested machine. It
// runs its command once and destroys itself. The exit code is in its newest
// event of type exit: any but 0 means that the tested machine is bad, and the
// rollout has failed. The file has no timeout for it: flyctl allows the wait
// timeout (Config.Wait) for the start and the same again for the end.
// kill_signal and kill_timeout only apply to a stop after that.
//
// flyctl tests machines that it updates and canaries, not those that it
// creates.
func (c *Config) machineCheckConfigs(group string, tested json.RawMessage, privateIP string) ([]json.RawMessage, error) {
	var configs []json.RawMessage
	for _, check := range c.machineChecks {
		if len(check.processes) > 0 && !slices.Contains(check.processes, group) {
			continue
		}
		config, err := c.machineCheckConfig(check, tested, privateIP)
		if err != nil {
			return nil, err
		}
		configs = append(configs, config)
	}
	return configs, nil
}

func (c *Config) machineCheckConfig(check testCommand, tested json.RawMessage, privateIP string) (json.RawMessage, error) {
	var machine struct {
		Image string            `json:"image"`
		Env   map[string]string `json:"env"`
		Init  struct {
			Entrypoint []string `json:"entrypoint"`
		} `json:"init"`
	}
	if err := json.Unmarshal(tested, &machine); err != nil {
		return nil, fmt.Errorf("reading the config of a machine to be tested: %w", err)
	}
	env := maps.Clone(c.env)
	maps.Copy(env, machine.Env)
	env["FLY_TEST_COMMAND"] = "1"
	env["FLY_TEST_MACHINE_IP"] = privateIP
	env[envGroup] = CheckGroup
	if c.region != "" {
		env[envRegion] = c.region
	}
	m := fly.MachineConfig{
		Image:       check.image,
		Init:        fly.MachineInit{Cmd: check.command, Entrypoint: check.entrypoint, SwapSizeMB: c.swap},
		Env:         env,
		Restart:     &fly.MachineRestart{Policy: fly.MachineRestartPolicyNo},
		AutoDestroy: true,
		DNS:         &fly.DNSConfig{SkipRegistration: true},
		StopConfig:  &check.stop,
		Metadata:    map[string]string{platformVersion: fly.MachineFlyPlatformVersion2, processGroup: CheckGroup},
	}
	guest := *fly.MachinePresets[fly.DefaultVMSize]
	guest.HostDedicationID = c.host
	m.Guest = &guest
	if m.Image == "" { // our image: our stop settings apply
		m.Image = machine.Image
		m.StopConfig = c.stopConfigOf(check)
	}
	if m.Init.Entrypoint == nil {
		m.Init.Entrypoint = machine.Init.Entrypoint
	}
	if c.entrypoint != nil {
		m.Init.Entrypoint = c.entrypoint
	}
	config, err := toObject(m)
	if err != nil {
		return nil, err
	}
	return rawjson.Marshal(config)
}

func (c *Config) stopConfigOf(check testCommand) *fly.StopConfig {
	stop := check.stop
	if c.stop != nil && stop.Signal == nil {
		stop.Signal = c.stop.Signal
	}
	if c.stop != nil && stop.Timeout == nil {
		stop.Timeout = c.stop.Timeout
	}
	return &stop
}

func (r *reader) readMachineChecks(section *tomldoc.Table, processes []string) (checks []testCommand) {
	for _, t := range section.List("machine_checks") {
		check := testCommand{
			image:      t.String("image"),
			command:    t.Strings("command"),
			entrypoint: t.Strings("entrypoint"),
			stop:       fly.StopConfig{Signal: t.StringPtr("kill_signal"), Timeout: readDuration(t, "kill_timeout", time.Nanosecond)},
			processes:  processes,
		}
		if v, ok := t.Any("command"); len(check.command) == 0 && (!ok || isList(v)) {
			t.Errorf("command", "missing; write it as a list: command = [\"bin/test\"]")
		}
		if len(check.entrypoint) > 0 && len(r.c.entrypoint) > 0 {
			t.Warnf("entrypoint", "has no effect; [experimental] entrypoint comes before it")
		}
		r.checkSignal(t, check.stop.Signal)
		if v, _ := t.Any("kill_timeout"); check.stop.Timeout != nil && check.stop.Timeout.Duration < time.Second {
			t.Warnf("kill_timeout", "%v means %s here; write it with a unit, like \"5s\"", v, check.stop.Timeout)
		}
		checks = append(checks, check)
	}
	return checks
}
