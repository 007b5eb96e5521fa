package simulation

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/microbima/release/fly/flysim"
)

// sickBefore is the kind of trouble in which the version that runs before the first
// release never passes its checks, even after a restart.
const sickBefore = "failing before the release"

// behaviourOf returns the behaviour that flysim gives a machine with this config.
func (s *simulation) behaviourOf(app string, config json.RawMessage) (b flysim.Behaviour) {
	if output := s.hostileOutput(); output != "" {
		b.Log = []string{output}
	}
	a, _, _ := s.findApp(app)
	old := !a.Still && bytes.Contains(config, []byte(`"LEVEL":"v1"`))
	b.NeverHealthy = old && slices.ContainsFunc(s.Troubles, func(t Trouble) bool { return t.Kind == sickBefore && t.App == app })
	b.CheckOutput = s.hostileOutput()
	return b
}
