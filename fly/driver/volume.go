package driver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// chooseVolume returns config with the volume for the machine of the step: the one in
// the config if it is free, otherwise a free one with the name in the region,
// otherwise, if the config has none and the plan allows it, a new one. A volume that an
// earlier attempt created and did not use is free.
func (r *stepRun) chooseVolume(ctx context.Context, config json.RawMessage) (json.RawMessage, error) {
	s := r.Step
	if s.Volume == nil {
		return config, nil
	}
	have, err := RetryRead(ctx, func() ([]fly.Volume, error) { return r.Fly.Volumes(ctx, s.FlyApp) })
	if err != nil {
		return nil, err
	}
	named := volumeOf(config)
	slices.SortFunc(have, func(a, b fly.Volume) int { return cmp.Compare(a.ID, b.ID) })
	for _, v := range have {
		if v.Free() && (v.ID == named || named == "" && v.Name == s.Volume.Name && (s.Region == "" || v.Region == s.Region)) {
			return setVolume(config, v.ID), nil
		}
	}
	if named != "" {
		return nil, volumeFailure(s, fmt.Sprintf("needs its volume %s (%s), which is gone or in use", named, s.Volume.Name))
	}
	if len(s.Volume.CreateRequest) == 0 {
		return nil, volumeFailure(s, fmt.Sprintf(
			"needs a free volume %s in %s: create one with `fly volumes create %s -a %s -r %s`", s.Volume.Name, s.Region, s.Volume.Name, s.FlyApp, s.Region))
	}
	var ask fly.NewVolume
	if err := json.Unmarshal(s.Volume.CreateRequest, &ask); err != nil {
		return nil, &Error{release.KindConfig, fmt.Errorf("%s: volume %s: %w", s.Target, s.Volume.Name, err)}
	}
	ask.Region = cmp.Or(s.Region, ask.Region)
	created, err := r.Fly.CreateVolume(ctx, s.FlyApp, ask)
	return setVolume(config, created.ID), err
}

// volumeFailure returns the failure of a machine without a volume.
func volumeFailure(s release.Step, reason string) error {
	return failureError(release.KindFailure, release.Failure{Target: s.Target, Name: s.Machine, Group: s.Group, Reason: reason})
}

// volumeOf returns the ID of the volume in config, or "".
func volumeOf(config json.RawMessage) string {
	var c struct{ Mounts []struct{ Volume string } }
	if json.Unmarshal(config, &c) != nil || len(c.Mounts) == 0 {
		return ""
	}
	return c.Mounts[0].Volume
}

// setVolume returns config with that volume in its first mount, if it has one.
func setVolume(config json.RawMessage, id string) json.RawMessage {
	return editObject(config, "", func(top map[string]json.RawMessage) {
		var mounts []map[string]json.RawMessage
		if json.Unmarshal(top["mounts"], &mounts) == nil && len(mounts) > 0 && id != "" {
			mounts[0]["volume"] = encodeJSON(id)
			top["mounts"] = encodeJSON(mounts)
		}
	})
}
