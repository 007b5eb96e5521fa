package simulation

import (
	"encoding/json"
	"regexp"
	"slices"
)

// Shrink returns a smaller and simpler case for which wrong still returns true. It
// calls wrong at most tries times.
func Shrink(c Case, wrong func(Case) bool, tries int) Case {
	for smaller := true; smaller; {
		smaller = false
		for _, cut := range listCuts(c) {
			if tries--; tries < 0 {
				return c
			}
			if wrong(cut) {
				c, smaller = cut, true
				break
			}
		}
	}
	return c
}

// listCuts returns the cases that are one step smaller or simpler than c, the
// largest reductions first.
func listCuts(c Case) (all []Case) {
	try := func(change func(*Case) bool) {
		next := c.clone()
		if change(&next) {
			all = append(all, next)
		}
	}
	tryRemovals(c, try)
	trySimplerApps(c, try)
	trySimplerRest(c, try)
	return all
}

// tryRemovals tries c without one of its parts.
func tryRemovals(c Case, try func(func(*Case) bool)) {
	for i := range c.Apps {
		try(func(n *Case) bool { return n.dropApp(i) })
	}
	for i := range c.Troubles {
		try(func(n *Case) bool { n.Troubles = slices.Delete(n.Troubles, i, i+1); return true })
	}
	for i := range c.Environments {
		try(func(n *Case) bool {
			n.Environments = slices.Delete(n.Environments, i, i+1)
			return len(n.Environments) > 0
		})
	}
	for i := range c.Releases {
		try(func(n *Case) bool { n.Releases = slices.Delete(n.Releases, i, i+1); return len(n.Releases) > 0 })
	}
	try(func(n *Case) bool { n.Answers = nil; return len(c.Answers) > 0 })
	try(func(n *Case) bool { n.Limits = false; return c.Limits })
	try(func(n *Case) bool { n.Repeats = false; return c.Repeats })
}

// trySimplerApps tries c with fewer machines and with simpler apps.
func trySimplerApps(c Case, try func(func(*Case) bool)) {
	for i, a := range c.Apps {
		for j, g := range a.Groups {
			try(func(n *Case) bool {
				n.Apps[i].Groups = slices.Delete(n.Apps[i].Groups, j, j+1)
				return len(a.Groups) > 1
			})
			for _, keep := range []int{1, len(g.Machines) / 2, len(g.Machines) - 1} {
				try(func(n *Case) bool {
					if keep <= 0 || keep >= len(g.Machines) {
						return false
					}
					n.Apps[i].Groups[j].Machines = n.Apps[i].Groups[j].Machines[:keep]
					return true
				})
			}
			for k, initial := range g.Machines {
				try(func(n *Case) bool {
					n.Apps[i].Groups[j].Machines[k] = InitialMachine{State: "started"}
					return initial != InitialMachine{State: "started"}
				})
			}
			try(func(n *Case) bool { n.Apps[i].Groups[j].Checks = 0; return g.Checks > 0 && g.Service })
			try(func(n *Case) bool { n.Apps[i].Groups[j].Volume = false; return g.Volume })
			try(func(n *Case) bool { n.Apps[i].Groups[j].Standby = false; return g.Standby })
		}
		try(func(n *Case) bool { n.Apps[i].Command = false; return a.Command })
		try(func(n *Case) bool { n.Apps[i].Secret = false; return a.Secret })
		try(func(n *Case) bool { n.Apps[i].AutoStop = false; return a.AutoStop })
		try(func(n *Case) bool { n.Apps[i].Still = false; return a.Still })
		try(func(n *Case) bool { n.Apps[i].Like = nil; return len(a.Like) > 0 })
		try(func(n *Case) bool { n.Apps[i].Needs = nil; return len(a.Needs) > 0 })
		try(func(n *Case) bool { n.Apps[i].Strategy = "rolling"; return a.Strategy != "rolling" })
	}
}

// trySimplerRest tries c with simpler environments, releases and troubles.
func trySimplerRest(c Case, try func(func(*Case) bool)) {
	for i, e := range c.Environments {
		try(func(n *Case) bool { n.Environments[i].Bake = 0; return e.Bake > 0 })
		try(func(n *Case) bool { n.Environments[i].Canary = 0; return e.Canary > 0 })
		try(func(n *Case) bool { n.Environments[i].Irreversible = false; return e.Irreversible })
		try(func(n *Case) bool { n.Environments[i].Empty = false; return e.Empty })
		try(func(n *Case) bool { n.Environments[i].Approvals = 0; return e.Approvals > 0 })
	}
	for i, o := range c.Releases {
		try(func(n *Case) bool { n.Releases[i].Abort, n.Releases[i].AbortIn = 0, ""; return o.Abort > 0 })
		try(func(n *Case) bool { n.Releases[i].Apps = nil; return len(o.Apps) > 0 })
		for j := range o.Reviews {
			try(func(n *Case) bool {
				n.Releases[i].Reviews = slices.Delete(n.Releases[i].Reviews, j, j+1)
				return true
			})
		}
	}
	for i, t := range c.Troubles {
		try(func(n *Case) bool { n.Troubles[i].Skip /= 2; return t.Skip > 0 })
		try(func(n *Case) bool { n.Troubles[i].Times = 1; return t.Times > 1 })
		try(func(n *Case) bool { n.Troubles[i].After = false; return t.After })
	}
}

// dropApp removes an app and the references to it. It returns false if no app is left.
func (c *Case) dropApp(i int) bool {
	name := c.Apps[i].Name
	c.Apps = slices.Delete(c.Apps, i, i+1)
	for j := range c.Apps {
		c.Apps[j].Needs = slices.DeleteFunc(c.Apps[j].Needs, func(n string) bool { return n == name })
	}
	for j := range c.Releases {
		c.Releases[j].Apps = slices.DeleteFunc(c.Releases[j].Apps, func(n string) bool { return n == name })
	}
	return len(c.Apps) > 0
}

// clone returns a deep copy of c.
func (c Case) clone() (out Case) {
	doc, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(doc, &out)
	}
	if err != nil {
		panic(err) // plain data
	}
	return out
}

var violationDetails = regexp.MustCompile(`[0-9a-f]{8,}|\d[\dhms.]*|after .*$`)

// ViolationKind returns a violation without IDs, numbers and times, so that violations
// of the same kind are equal.
func ViolationKind(violation string) string { return violationDetails.ReplaceAllString(violation, "#") }
