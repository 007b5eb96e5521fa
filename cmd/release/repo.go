package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/microbima/release/config"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/release"
)

// A source is a revision of the repository around the current directory, and
// what its files say.
type source struct {
	repo     *git.Repo
	revision release.Revision
	project  *release.Project
	files    fs.FS
}

// source reads the files at a revision ("" is HEAD), not those in the worktree.
func (e *env) source(ctx context.Context, revision string) (source, error) {
	repo, err := git.Open(ctx, e.dir)
	if err != nil {
		return source{}, err
	}
	rev, err := repo.Resolve(ctx, revision)
	if err != nil {
		return source{}, err
	}
	files, err := repo.Files(ctx, rev.Commit)
	if err != nil {
		return source{}, err
	}
	project, warnings, err := load(files)
	for _, w := range warnings {
		e.warn("%v", w)
	}
	if err != nil {
		return source{}, fmt.Errorf("the files at %s are wrong:\n%w", rev.Short(), err)
	}
	return source{repo, rev, project, files}, nil
}

// load is config.Load, with what no build of the Dockerfiles would get past: a
// release would find it out after minutes.
func load(files fs.FS) (*release.Project, config.Warnings, error) {
	project, warnings, err := config.Load(files)
	if err != nil {
		return nil, warnings, err
	}
	var recipes []release.Recipe
	for _, b := range project.Builds(project.Environments, appNames(project), nil) {
		recipes = append(recipes, b.Recipe)
	}
	for _, t := range project.Tests {
		recipes = append(recipes, t.Recipe())
	}
	var mistakes config.Errors
	for _, r := range recipes {
		if r.Dockerfile == "" {
			continue
		}
		if m := buildkit.Check(files, r); m != nil {
			wrong := &config.Error{File: m.File, Line: m.Line, Msg: m.Message}
			if !slices.ContainsFunc(mistakes, func(e *config.Error) bool { return *e == *wrong }) {
				mistakes = append(mistakes, wrong)
			}
		}
	}
	if len(mistakes) > 0 {
		return nil, warnings, mistakes
	}
	return project, warnings, nil
}

// worktree is the nearest directory upwards that holds a release.toml, or "".
func (e *env) worktree() string {
	for dir := e.dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, config.File)); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// here is the project in the worktree as its files are now, or nil: commands
// that can do without one use it to know what is meant.
func (e *env) here() *release.Project {
	dir := e.worktree()
	if dir == "" {
		return nil
	}
	project, _, err := config.Load(os.DirFS(dir))
	if err != nil {
		return nil
	}
	return project
}

// mustHere is the project in the worktree, or everything wrong with it.
func (e *env) mustHere() (*release.Project, error) {
	dir := e.worktree()
	if dir == "" {
		return nil, fmt.Errorf("no %s in %s or above; go to the clone of a repository that has one", config.File, e.dir)
	}
	project, _, err := config.Load(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("the files in %s are wrong:\n%w", dir, err)
	}
	return project, nil
}

// doubts warns of what is not in the commit, and of a commit that workers
// cannot fetch from repository.
func (e *env) doubts(ctx context.Context, s source, repository string) {
	if dirty, err := s.repo.Dirty(ctx); err == nil && dirty {
		e.warn("the worktree has changes that are in no commit; what is released is %s", s.revision.Short())
	}
	origin, err := s.repo.Remote(ctx, "origin")
	if err != nil || origin == "" || withoutPassword(origin) != repository {
		return
	}
	if pushed, err := s.repo.Pushed(ctx, s.revision.Commit, "origin"); err == nil && !pushed {
		e.warn("%s is not on origin, as far as this clone knows; workers fetch it from there: git push first", s.revision.Short())
	}
}

// repository is where workers fetch s: as release.toml says, else this very
// clone with a release dev, whose worker is on this machine, else its origin.
func (e *env) repository(ctx context.Context, s source, given string, local bool) (string, error) {
	if given != "" {
		if withoutPassword(given) != given {
			return "", usage("--repo: there is a user or a password in the address, which the history would keep; give it to the git of the workers")
		}
		return given, nil
	}
	if s.project.Repository != "" {
		return s.project.Repository, nil
	}
	if local {
		return s.repo.Dir, nil
	}
	origin, err := s.repo.Remote(ctx, "origin")
	if err != nil {
		return "", err
	}
	if origin == "" {
		return "", errors.New("nothing says where workers fetch this repository: write repository = \"https://…\" in release.toml, or add a remote called origin, or use --repo URL (the folder of a clone is used with release dev only)")
	}
	return withoutPassword(origin), nil
}

var userinfo = regexp.MustCompile(`://[^/]*@`)

// withoutPassword keeps a password in a clone's address from being recorded.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil { // as when a password has a % in it
		return userinfo.ReplaceAllString(address, "://")
	}
	if u.User == nil {
		return address
	}
	if u.Scheme != "ssh" { // to which a user is no secret
		u.User = nil
	} else if _, secret := u.User.Password(); secret {
		u.User = url.User(u.User.Username())
	} else {
		return address
	}
	return u.String()
}

// whoami is by, or who git or the system says is here.
func (e *env) whoami(ctx context.Context, by string) string {
	if by != "" {
		return by
	}
	cmd := exec.CommandContext(ctx, "git", "config", "--get", "user.name")
	cmd.Dir, cmd.Env = e.dir, e.environ
	out, err := cmd.Output()
	name := string(bytes.TrimSpace(out))
	if err != nil {
		name = ""
	}
	return cmp.Or(name, e.userName())
}

// userName returns the name of the system's user, or "unknown".
func (e *env) userName() string {
	name := e.getenv("USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	return cmp.Or(name, "unknown")
}

// subject is how a commit is shown.
func subject(r release.Revision) string {
	return strings.TrimSpace(r.Short() + " " + r.Subject)
}
