package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Staged are the secrets of s that m does not see yet: they were set after this
// version of it was made. Its next change picks them up.
func (s State) Staged(m Machine) (names []string) {
	if m.Made.IsZero() {
		return nil // Fly doesn't say when
	}
	for _, secret := range s.Secrets {
		if secret.Updated.After(m.Made) {
			names = append(names, secret.Name)
		}
	}
	return names
}

// stagedSecretNames are the secrets that some machine of s does not see yet.
func (s State) stagedSecretNames() (names []string) {
	for _, m := range s.Machines {
		names = append(names, s.Staged(m)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkSecretsUnchanged says how now differs from what was, or "".
func checkSecretsUnchanged(was, now []Secret) string {
	for _, n := range now {
		i := slices.IndexFunc(was, func(s Secret) bool { return s.Name == n.Name })
		if i < 0 || !was[i].Updated.Equal(n.Updated) {
			return fmt.Sprintf("secret %s was set", n.Name)
		}
	}
	for _, w := range was {
		if !slices.ContainsFunc(now, func(s Secret) bool { return s.Name == w.Name }) {
			return fmt.Sprintf("secret %s was removed", w.Name)
		}
	}
	return ""
}

// SecretsKept says, a sentence for each target, which secrets the machines see
// now and did not see in the baseline: Fly has no way to bring old values back.
// Changed are the targets of which a machine was changed since.
func SecretsKept(baselines []Baseline, now []State, changed func(Target) bool) (notes []string) {
	for _, b := range baselines {
		if !changed(b.State.Target) {
			continue
		}
		have := findState(now, b.State.Target)
		names := b.State.stagedSecretNames()
		for _, s := range have.Secrets {
			i := slices.IndexFunc(b.State.Secrets, func(x Secret) bool { return x.Name == s.Name })
			if i < 0 || !b.State.Secrets[i].Updated.Equal(s.Updated) {
				names = append(names, s.Name)
			}
		}
		for _, s := range b.State.Secrets {
			if !slices.ContainsFunc(have.Secrets, func(x Secret) bool { return x.Name == s.Name }) {
				names = append(names, s.Name)
			}
		}
		slices.Sort(names)
		if names = slices.Compact(names); len(names) > 0 {
			notes = append(notes, fmt.Sprintf("secrets of %s are not as they were: machines that were changed have the present values of %s; Fly can't bring old ones back",
				b.State.Target, strings.Join(names, ", ")))
		}
	}
	return notes
}

// describeStagedSecrets is what a person should know of secrets that a plan picks up.
func (s State) describeStagedSecrets() string {
	names := s.stagedSecretNames()
	if len(names) == 0 {
		return ""
	}
	var newest time.Time
	for _, x := range s.Secrets {
		if slices.Contains(names, x.Name) && x.Updated.After(newest) {
			newest = x.Updated
		}
	}
	return fmt.Sprintf("picks up staged secrets: %s (set until %s); a rollback can't bring their old values back",
		strings.Join(names, ", "), newest.UTC().Format("2006-01-02 15:04 UTC"))
}

// VolumesMade says which volumes there are that the baseline does not know.
// They are left: only their people can say that nothing in them is needed.
func VolumesMade(baselines []Baseline, now []State) (notes []string) {
	for _, b := range baselines {
		for _, v := range findState(now, b.State.Target).Volumes {
			if !slices.ContainsFunc(b.State.Volumes, func(x Volume) bool { return x.ID == v.ID }) {
				notes = append(notes, fmt.Sprintf("volume %s (%s) of %s was made and stays; if nothing in it is needed: fly volumes destroy %s -a %s",
					v.ID, v.Name, b.State.Target, v.ID, b.State.FlyApp))
			}
		}
	}
	return notes
}
