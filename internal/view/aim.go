package view

import (
	"fmt"
	"strings"

	"github.com/microbima/release/release"
)

// Aim is what a target ran at some time: its machines by image.
func Aim(s release.State) string {
	count := map[string]int{}
	var images []string
	for _, m := range s.Machines {
		image := Digest(m.Image)
		if count[image]++; count[image] == 1 {
			images = append(images, image)
		}
	}
	for i, image := range images {
		images[i] = fmt.Sprintf("%s on %s", machines(count[image]), image)
	}
	return s.Target.App + ": " + strings.Join(images, ", ")
}

func machines(n int) string { return count(n, "machine") }
