package localstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// readMachines returns every machine of an environment as reported by Fly.
func readMachines(ctx context.Context, c *fly.Client, env release.Environment) (map[string]fly.Machine, error) {
	all := map[string]fly.Machine{}
	for _, t := range env.Targets {
		machines, err := c.Machines(ctx, t.FlyApp)
		if err != nil {
			return nil, err
		}
		for _, m := range machines {
			all[t.FlyApp+" "+m.ID] = m
		}
	}
	return all, nil
}

// compareMachines returns an error unless before and after have the same machines, each
// with the same config (byte for byte), image, state and cordon.
func compareMachines(env release.Environment, before, after map[string]fly.Machine) error {
	var differences []string
	for name, was := range before {
		is, ok := after[name]
		switch {
		case !ok:
			differences = append(differences, name+" is gone")
		case !bytes.Equal(was.Config, is.Config):
			differences = append(differences, name+" has another config")
		case was.ImageRef.Digest != is.ImageRef.Digest:
			differences = append(differences, name+" runs another image")
		case was.State != is.State || was.Cordoned != is.Cordoned:
			differences = append(differences, fmt.Sprintf("%s is %s", name, is.State))
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			differences = append(differences, name+" is new")
		}
	}
	if len(differences) > 0 {
		slices.Sort(differences)
		return errors.New(env.Name + " differs from its state before the bad revision: " + strings.Join(differences, "; "))
	}
	return nil
}
