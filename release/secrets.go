package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// StagedSecrets returns the names of the secrets of s that m does not have: their
// values were set after its version was made. The next change of m applies them.
func (s State) StagedSecrets(m Machine) (names []string) {
	if m.VersionTime.IsZero() {
		return nil // Fly does not report the time
	}
	for _, secret := range s.Secrets {
		if secret.Updated.After(m.VersionTime) {
			names = append(names, secret.Name)
		}
	}
	return names
}

// stagedSecretNames returns the names of the secrets that a machine of s does not have.
func (s State) stagedSecretNames() (names []string) {
	for _, m := range s.Machines {
		names = append(names, s.StagedSecrets(m)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkSecretsUnchanged returns an error that names a secret that differs between was
// and now, or nil.
func checkSecretsUnchanged(was, now []Secret) error {
	for _, n := range now {
		i := slices.IndexFunc(was, func(s Secret) bool { return s.Name == n.Name })
		if i < 0 || !was[i].Updated.Equal(n.Updated) {
			return fmt.Errorf("secret %s was set", n.Name)
		}
	}
	for _, w := range was {
		if !slices.ContainsFunc(now, func(s Secret) bool { return s.Name == w.Name }) {
			return fmt.Errorf("secret %s was removed", w.Name)
		}
	}
	return nil
}

// DescribeKeptSecrets returns a sentence for each target whose machines have other
// secrets now than in the baseline, because Fly cannot restore old values. changed
// reports whether a machine of a target was changed since.
func DescribeKeptSecrets(baselines []Baseline, now []State, changed func(Target) bool) (notes []string) {
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

// describeStagedSecrets returns a note on the staged secrets that a plan applies, or "".
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

// DescribeNewVolumes returns a sentence for each volume that the baseline does not
// have. It is not destroyed, because its data may be needed.
func DescribeNewVolumes(baselines []Baseline, now []State) (notes []string) {
	for _, b := range baselines {
		for _, v := range findState(now, b.State.Target).Volumes {
			if !slices.ContainsFunc(b.State.Volumes, func(x Volume) bool { return x.ID == v.ID }) {
				notes = append(notes, fmt.Sprintf("volume %s (%s) of %s was created and is kept; if its data are not needed: fly volumes destroy %s -a %s",
					v.ID, v.Name, b.State.Target, v.ID, b.State.FlyApp))
			}
		}
	}
	return notes
}
