package release

import "fmt"

// DescribeDifferences returns a sentence for each difference between now and the
// baselines: config, image, region, running or not, cordon, missing and additional
// machines. A new ID of a machine that was created again is no difference: see
// DescribeRecreated.
func DescribeDifferences(baselines []Baseline, now []State) (diffs []string) {
	for _, b := range baselines {
		have := findState(now, b.State.Target)
		is, were := have.indexMachines(), b.State.indexMachines()
		for _, want := range b.State.Machines {
			m, ok := is.findCounterpart(want)
			if !ok {
				diffs = append(diffs, fmt.Sprintf("machine %s (%s) of %s is gone", want.ID, want.Name, b.State.Target))
				continue
			}
			diffs = append(diffs, describeDifference(b.State.Target, want, m)...)
		}
		for _, m := range have.Machines {
			if !were.hasCounterpart(m) {
				diffs = append(diffs, fmt.Sprintf("machine %s (%s) of %s is new", m.ID, m.Name, b.State.Target))
			}
		}
	}
	return diffs
}

func describeDifference(t Target, want, have Machine) (diffs []string) {
	say := func(what, is, was string) {
		diffs = append(diffs, fmt.Sprintf("machine %s of %s: %s is %s, was %s", have.ID, t, what, is, was))
	}
	same := have.IsSameVersion(want) // even if Fly reports incomplete values of an unreachable machine
	if !same && have.Image.Digest() != want.Image.Digest() {
		say("image", have.Image.Digest(), want.Image.Digest())
	}
	if want.Host == "" && !same && !have.Config.isEqual(want.Config) {
		diffs = append(diffs, fmt.Sprintf("machine %s of %s: its config differs from the baseline", have.ID, t))
	}
	if have.IsRunning() != want.IsRunning() && !((have.IsAsleep() || have.HasCompleted()) && want.IsRunning()) {
		say("state", have.State, want.State)
	}
	if have.Cordoned != want.Cordoned {
		say("cordoned", fmt.Sprint(have.Cordoned), fmt.Sprint(want.Cordoned))
	}
	if have.Region != want.Region {
		say("region", have.Region, want.Region)
	}
	return diffs
}

// DescribeRecreated returns a sentence for each machine of the baseline that has a new
// ID, and for each that lost its suspended memory.
func DescribeRecreated(baselines []Baseline, now []State) (notes []string) {
	for _, b := range baselines {
		have := findState(now, b.State.Target).indexMachines()
		for _, want := range b.State.Machines {
			m, ok := have.findCounterpart(want)
			if ok && want.State == "suspended" && m.State == "stopped" {
				notes = append(notes, fmt.Sprintf("machine %s of %s was suspended and is stopped now: its suspended memory is lost", m.ID, b.State.Target))
			}
			if ok && m.ID != want.ID {
				notes = append(notes, fmt.Sprintf("machine %s (%s) of %s had to be created again: its ID is now %s", want.ID, want.Name, b.State.Target, m.ID))
			}
		}
	}
	return notes
}
