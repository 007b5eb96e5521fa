package view

import (
	"fmt"
	"strings"

	"github.com/microbima/release/release"
)

// BaselineText returns the machines of a recorded state by image:
// "api: 2 machines on sha256:111111111111".
func BaselineText(s release.State) string {
	machines := map[string]int{}
	var images []string
	for _, m := range s.Machines {
		image := Digest(m.Image)
		if machines[image]++; machines[image] == 1 {
			images = append(images, image)
		}
	}
	for i, image := range images {
		images[i] = fmt.Sprintf("%s on %s", machineCount(machines[image]), image)
	}
	return s.Target.App + ": " + strings.Join(images, ", ")
}

func machineCount(n int) string { return count(n, "machine") }
