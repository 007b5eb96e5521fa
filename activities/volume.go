package activities

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// withVolume is config with the volume that the machine of s is to have: the one
// that the config names, if it is free; else a free one of that name in the
// region; else, where the config names none and the plan says so, a new one. A volume that an attempt made
// and did not use is free for the next.
func (a *Activities) withVolume(ctx context.Context, s release.Step, config json.RawMessage) (json.RawMessage, error) {
	if s.Volume == nil {
		return config, nil
	}
	have, err := retryRead(ctx, func() ([]fly.Volume, error) { return a.Fly.Volumes(ctx, s.FlyApp) })
	if err != nil {
		return nil, err
	}
	named := volumeOf(config)
	slices.SortFunc(have, func(a, b fly.Volume) int { return cmp.Compare(a.ID, b.ID) })
	for _, v := range have {
		if v.Free() && (v.ID == named || named == "" && v.Name == s.Volume.Name && (s.Region == "" || v.Region == s.Region)) {
			return mounting(config, v.ID), nil
		}
	}
	if named != "" {
		f := release.Failure{Target: s.Target, Name: s.Machine, Group: s.Group, Reason: fmt.Sprintf("needs its volume %s (%s), and that is gone or in use", named, s.Volume.Name)}
		return nil, refused(release.KindFailure, f, f)
	}
	if len(s.Volume.Ask) == 0 {
		f := release.Failure{Target: s.Target, Name: s.Machine, Group: s.Group, Reason: fmt.Sprintf(
			"needs a free volume %s in %s, and there is none: make one with `fly volumes create %s -a %s -r %s`", s.Volume.Name, s.Region, s.Volume.Name, s.FlyApp, s.Region)}
		return nil, refused(release.KindFailure, f, f)
	}
	var ask fly.NewVolume
	if err := json.Unmarshal(s.Volume.Ask, &ask); err != nil {
		return nil, refused(release.KindConfig, fmt.Errorf("%s: volume %s: %w", s.Target, s.Volume.Name, err))
	}
	ask.Region = cmp.Or(s.Region, ask.Region)
	made, err := a.Fly.CreateVolume(ctx, s.FlyApp, ask)
	return mounting(config, made.ID), err
}

// volumeOf is the ID of the volume that a config mounts, or "".
func volumeOf(config json.RawMessage) string {
	var c struct{ Mounts []struct{ Volume string } }
	if json.Unmarshal(config, &c) != nil || len(c.Mounts) == 0 {
		return ""
	}
	return c.Mounts[0].Volume
}

// mounting is config with that volume in its first mount, if it has one.
func mounting(config json.RawMessage, id string) json.RawMessage {
	return edited(config, "", func(top map[string]json.RawMessage) {
		var mounts []map[string]json.RawMessage
		if json.Unmarshal(top["mounts"], &mounts) == nil && len(mounts) > 0 && id != "" {
			mounts[0]["volume"] = quoted(id)
			top["mounts"] = object(mounts)
		}
	})
}
