package buildkit

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/microbima/release/release"
)

// A Mistake is something in a Dockerfile that no build of it would get past.
type Mistake struct {
	File    string // path in the repository
	Line    int    // 0: it is not about one
	Message string
}

// Check says what is wrong with the Dockerfile of a recipe, nil if nothing is
// that can be seen without building it. What another frontend reads, by its
// syntax comment, is that one's to judge.
func Check(repository fs.FS, recipe release.Recipe) *Mistake {
	dockerfile, err := fs.ReadFile(repository, recipe.Dockerfile)
	if err != nil {
		return &Mistake{File: recipe.Dockerfile, Message: "there is no such file in the repository"}
	}
	if blank(dockerfile) {
		return &Mistake{File: recipe.Dockerfile, Message: "there is nothing in it"}
	}
	if _, _, _, other := parser.DetectSyntax(dockerfile); other {
		return nil
	}
	names, err := targets(dockerfile)
	if err != nil {
		wrong := &Mistake{File: recipe.Dockerfile, Message: syntax.ReplaceAllString(err.Error(), "")}
		var at *parser.LocationError
		if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
			wrong.Line = at.Locations[0][0].Start.Line
		}
		return wrong
	}
	if has := lacks(names, recipe.BuildTarget); has != "" {
		return &Mistake{File: recipe.Dockerfile, Message: fmt.Sprintf("there is no build target %s: it has %s", recipe.BuildTarget, has)}
	}
	return nil
}

// lacks says which build targets there are if target is none of them, else "".
func lacks(names []string, target string) string {
	if target == "" {
		return ""
	}
	for i, name := range names {
		if strings.EqualFold(name, target) || target == fmt.Sprint(i) {
			return ""
		}
	}
	if named := strings.Join(strings.Fields(strings.Join(names, " ")), ", "); named != "" {
		return named
	}
	return "no names; FROM … AS " + target + " gives one"
}
