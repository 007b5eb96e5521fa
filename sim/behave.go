package sim

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/microbima/release/fly/flysim"
)

// sickBefore is the kind of trouble in which the version that runs before the
// first release never passes its checks, however often it is started.
const sickBefore = "sick before the release"

// behaves returns how a machine of that config behaves by itself.
func (w *world) behaves(app string, config json.RawMessage) (b flysim.Behaviour) {
	if output := w.output(); output != "" {
		b.Log = []string{output}
	}
	a, _, _ := w.app(app)
	old := !a.Still && bytes.Contains(config, []byte(`"LEVEL":"v1"`))
	b.NeverHealthy = old && slices.ContainsFunc(w.Troubles, func(t Trouble) bool { return t.Kind == sickBefore && t.App == app })
	b.CheckOutput = w.output()
	return b
}
