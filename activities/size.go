package activities

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
)

const (
	// MaxSteps is the maximum number of steps of a rollout and its rollback. Temporal
	// ends a workflow with 51,200 events. A step takes at most 6 events; the rest is
	// for retries that an operator chooses.
	MaxSteps = 7500
	// maxStepBytes is the maximum total size of the configs of all steps, including the
	// rollback. Temporal ends a workflow whose history has 50 MB.
	maxStepBytes = 30 << 20
)

// checkPlanSize fails with KindTooLarge if plan or its rollback exceeds the limits of
// Temporal: the plan, the rollback or the baseline is larger than one value, or their
// steps are more than one workflow can have. It is called before any change.
//
// It measures the largest possible rollback: all steps of the plan were executed and
// all are rolled back.
func checkPlanSize(plan release.Plan, states []release.State) error {
	goal, baselines := plan.Goal(states), plan.Baselines(states)
	for i, g := range goal { // a created machine has an ID when it is rolled back
		for j, m := range g.Machines {
			goal[i].Machines[j].ID = cmp.Or(m.ID, m.Name)
		}
	}
	back := release.Restore(plan.Environment, baselines, goal, release.RestoreOptions{IsCreated: release.CreatedBy(plan.Goal(states))})
	if err := checkSteps(plan, back); err != nil {
		return err
	}
	outline := plan.WithoutConfigs()
	for _, part := range []struct {
		name  string
		value any
	}{
		{"the plan", release.RolloutRequest{Plan: plan}},
		{"its baseline", RestoreInput{Baselines: baselines, Goals: plan.Goal(states)}},
		{"the plan of its rollback", Restoration{Plan: back, States: withoutConfigs(goal)}},
		{"its report", release.Report{Status: release.Status{Plan: &outline}, Before: baselines, After: plan.Baselines(goal)}},
	} {
		size, err := payload.MeasureOf(part.value)
		why := ""
		switch {
		case err != nil:
			return err
		case size.Stored > payload.Max:
			why = fmt.Sprintf("takes %s of storage, and the limit is %s (equal configs and files are stored once)", formatMegabytes(size.Stored), formatMegabytes(payload.Max))
		case size.JSON > payload.MaxJSON:
			why = fmt.Sprintf("is %s when everything in it is written out, and the limit is %s", formatMegabytes(size.JSON), formatMegabytes(payload.MaxJSON))
		default:
			continue
		}
		return tooLargeError(fmt.Errorf("a rollout of %s is too large: %s %s; the largest configs: %s; make the files in them smaller or put them into the image, or release fewer apps at once with --app",
			plan.Environment, part.name, why, largestConfigs(plan)))
	}
	return nil
}

// checkSteps fails with KindTooLarge if the steps of plan and of its rollback exceed
// the limits of one workflow. The last steps of a plan are not counted with the
// rollback: after them there is none.
func checkSteps(plan, back release.Plan) error {
	first, last, restore := len(plan.ReversiblePart().Steps()), len(plan.IrreversiblePart().Steps()), len(back.Steps())
	if n := max(first+last, first+restore); n > MaxSteps {
		return tooLargeError(fmt.Errorf("a rollout of %s is too large: it takes %d steps on machines, its rollback %d, and the limit is %d together; release fewer apps at once with --app",
			plan.Environment, first+last, restore, MaxSteps))
	}
	size := 0
	for _, s := range slices.Concat(plan.Steps(), back.Steps()) {
		size += len(s.After.Doc)
		for _, check := range s.MachineChecks {
			size += len(check)
		}
	}
	if size > maxStepBytes {
		return tooLargeError(fmt.Errorf("a rollout of %s is too large: the configs of its steps and of its rollback's are %s, and the limit is %s; the largest configs: %s; make the files in them smaller or put them into the image, or release fewer apps at once with --app",
			plan.Environment, formatMegabytes(size), formatMegabytes(maxStepBytes), largestConfigs(plan)))
	}
	return nil
}

// checkProjectSize fails with KindTooLarge if the files of a project exceed the size of
// one value in Temporal.
func checkProjectSize(p *release.Project) error {
	measured, err := payload.MeasureOf(p)
	if err != nil || measured.Stored <= payload.Max {
		return err
	}
	type file struct {
		name string
		size int
	}
	var files []file
	for _, env := range p.Environments {
		for _, t := range env.Targets {
			files = append(files, file{t.Path, len(t.FlyToml)})
			for name, content := range t.Files {
				files = append(files, file{name + " of " + t.Path, len(content)})
			}
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(b.size-a.size, cmp.Compare(a.name, b.name)) })
	var largest []string
	for _, f := range files[:min(3, len(files))] {
		largest = append(largest, fmt.Sprintf("%s (%d kB)", f.name, f.size>>10))
	}
	return tooLargeError(fmt.Errorf("the files of the project are too large: release.toml, all fly.toml and the files that they name take %s of storage, and the limit is %s; the largest: %s; make them smaller or put them into the image",
		formatMegabytes(measured.Stored), formatMegabytes(payload.Max), strings.Join(largest, ", ")))
}

// largestConfigs returns the three targets with the largest configs, largest first.
func largestConfigs(plan release.Plan) string {
	largest := map[release.Target]int{}
	for _, s := range plan.Steps() {
		largest[s.Target] = max(largest[s.Target], len(s.Before.Doc), len(s.After.Doc))
	}
	targets := make([]release.Target, 0, len(largest))
	for t := range largest {
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b release.Target) int {
		return cmp.Or(largest[b]-largest[a], cmp.Compare(a.String(), b.String()))
	})
	var names []string
	for _, t := range targets[:min(3, len(targets))] {
		names = append(names, fmt.Sprintf("%s (%d kB a machine)", t, largest[t]>>10))
	}
	return strings.Join(names, ", ")
}

func formatMegabytes(n int) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }
