package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/microbima/release/config"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/release"
)

// loadFiles calls config.Load and also reports mistakes of Dockerfiles that every build
// would fail on, so that a release does not fail on them minutes later.
func loadFiles(files fs.FS) (*release.Project, config.Warnings, error) {
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
			mistake := &config.Error{File: m.File, Line: m.Line, Msg: m.Message}
			if !slices.ContainsFunc(mistakes, func(e *config.Error) bool { return *e == *mistake }) {
				mistakes = append(mistakes, mistake)
			}
		}
	}
	if len(mistakes) > 0 {
		return nil, warnings, mistakes
	}
	return project, warnings, nil
}

// worktreeDir returns the nearest directory from dir upwards with a release.toml, or "".
func worktreeDir(dir string) string {
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, config.File)); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// errNoWorktree returns the error for a directory without a release.toml.
func errNoWorktree(dir string) error {
	return fmt.Errorf("no %s in %s or above; go to the clone of a repository that has one", config.File, dir)
}

// FindProject returns the project of the worktree around dir from its current files, or
// nil.
func FindProject(dir string) *release.Project {
	project, err := loadWorktree(dir)
	if err != nil {
		return nil
	}
	return project
}

// loadWorktree returns the project of the worktree around dir, or an error with all
// mistakes in its files.
func loadWorktree(dir string) (*release.Project, error) {
	root := worktreeDir(dir)
	if root == "" {
		return nil, errNoWorktree(dir)
	}
	project, _, err := config.Load(os.DirFS(root))
	if err != nil {
		return nil, fmt.Errorf("the files in %s are wrong:\n%w", root, err)
	}
	return project, nil
}

// loadAnyProject returns the project of the worktree, or, if its files are invalid, that of
// the newest commit with valid files.
func loadAnyProject(ctx context.Context, w *World) (*release.Project, error) {
	project, err := loadWorktree(w.Dir)
	if err == nil {
		return project, nil
	}
	src, other := loadNewestValid(ctx, w)
	if other != nil {
		return nil, err
	}
	return src.Project, nil
}

func appNames(p *release.Project) (names []string) {
	for _, a := range p.Apps {
		names = append(names, a.Name)
	}
	return names
}

func environmentNames(environments []release.Environment) (names []string) {
	for _, e := range environments {
		names = append(names, e.Name)
	}
	return names
}

// checkApps returns a usage error if the project lacks one of apps.
func checkApps(p *release.Project, apps []string) error {
	for _, app := range apps {
		if _, ok := p.App(app); !ok {
			return Usage("no app %q; there are: %s", app, strings.Join(appNames(p), ", "))
		}
	}
	return nil
}

// A Source is a revision of the repository around the current directory, with its files.
type Source struct {
	Repo     *git.Repo
	Revision release.Revision
	Project  *release.Project
	Files    fs.FS
}

// LoadSource reads the files of a revision ("" is HEAD), not of the worktree.
func LoadSource(ctx context.Context, w *World, revision string) (Source, error) {
	repo, err := git.Open(ctx, w.Dir)
	if err != nil {
		return Source{}, err
	}
	rev, err := repo.Resolve(ctx, revision)
	if err != nil {
		return Source{}, err
	}
	files, err := repo.Files(ctx, rev.Commit)
	if err != nil {
		return Source{}, err
	}
	project, warnings, err := loadFiles(files)
	for _, warning := range warnings {
		w.Warn("%v", warning)
	}
	if err != nil {
		return Source{}, errWrongFiles(rev, err)
	}
	return Source{repo, rev, project, files}, nil
}

func errWrongFiles(r release.Revision, err error) error {
	return fmt.Errorf("the files at %s are wrong:\n%w", r.Short(), err)
}

// validWithin is the number of commits before HEAD to search for valid files.
const validWithin = 200

// loadNewestValid returns HEAD, or the newest commit along first parents whose files are
// valid. A rollback needs only names from the files, so that a mistake in a newer commit
// must not prevent it.
func loadNewestValid(ctx context.Context, w *World) (Source, error) {
	repo, err := git.Open(ctx, w.Dir)
	if err != nil {
		return Source{}, err
	}
	head, err := loadAt(ctx, repo, "HEAD")
	var wrong config.Errors
	if !errors.As(err, &wrong) {
		return head, err
	}
	mistakes := errWrongFiles(head.Revision, err)
	for n := 1; n <= validWithin; n++ {
		src, err := loadAt(ctx, repo, fmt.Sprintf("HEAD~%d", n))
		switch {
		case err == nil:
			w.Warn("the files at %s are invalid (see release check); those of %s are used", head.Revision.Short(), src.Revision.Label())
			return src, nil
		case errors.As(err, &wrong):
			continue
		case errors.Is(err, git.ErrUnknown): // no more commits
			return Source{}, mistakes
		}
		return Source{}, err
	}
	return Source{}, mistakes
}

// loadAt reads the files of a revision. It returns a config.Errors if they are invalid.
func loadAt(ctx context.Context, repo *git.Repo, revision string) (Source, error) {
	rev, err := repo.Resolve(ctx, revision)
	if err != nil {
		return Source{}, err
	}
	src := Source{Repo: repo, Revision: rev}
	if src.Files, err = repo.Files(ctx, rev.Commit); err != nil {
		return src, err
	}
	src.Project, _, err = config.Load(src.Files)
	return src, err
}

// warnUnreleased warns of uncommitted changes, and of a commit that workers cannot fetch
// from repository.
func (s Source) warnUnreleased(ctx context.Context, w *World, repository string) {
	if dirty, err := s.Repo.Dirty(ctx); err == nil && dirty {
		w.Warn("the worktree has uncommitted changes; released is %s", s.Revision.Short())
	}
	origin, err := s.Repo.Remote(ctx, "origin")
	if err != nil || origin == "" || withoutPassword(origin) != repository {
		return
	}
	if pushed, err := s.Repo.Pushed(ctx, s.Revision.Commit, "origin"); err == nil && !pushed {
		w.Warn("%s is not on origin, as far as this clone has fetched; workers fetch it from there: git push first", s.Revision.Short())
	}
}

// repositoryAddress returns the address from which workers fetch s: given, that of
// release.toml, this clone if the worker is local, or the origin, in this order.
func (s Source) repositoryAddress(ctx context.Context, given string, local bool) (string, error) {
	switch {
	case given != "" && withoutPassword(given) != given:
		return "", Usage("--repo: there is a user or a password in the address, which the history would keep; give it to the git of the workers")
	case given != "":
		return given, nil
	case s.Project.Repository != "":
		return s.Project.Repository, nil
	case local:
		return s.Repo.Dir, nil
	}
	origin, err := s.Repo.Remote(ctx, "origin")
	if err != nil {
		return "", err
	}
	if origin == "" {
		return "", errors.New("workers have no address of this repository: write repository = \"https://…\" in release.toml, or add a remote called origin, or use --repo URL (the folder of a clone is used with release dev only)")
	}
	return withoutPassword(origin), nil
}

// removedBy returns the commits that a rollback to a revision removes, as far as the clone
// has them.
func (s Source) removedBy(ctx context.Context, back release.Revision, running []string) release.Lineage {
	if back.Commit == "" || len(running) == 0 {
		return release.Lineage{}
	}
	lineage, err := s.Repo.Lineage(ctx, back.Commit, running)
	if err != nil {
		return release.Lineage{}
	}
	lineage.Relation, lineage.Newer = "", nil // rollbacks are exempt from the comparison
	return lineage
}

var userinfo = regexp.MustCompile(`://[^/]*@`)

// withoutPassword removes the user and the password from the address of a clone, because
// the address is recorded.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil { // for example, a password with a %
		return userinfo.ReplaceAllString(address, "://")
	}
	if u.User == nil {
		return address
	}
	if u.Scheme != "ssh" { // the user of an ssh address is not secret
		u.User = nil
	} else if _, secret := u.User.Password(); secret {
		u.User = url.User(u.User.Username())
	} else {
		return address
	}
	return u.String()
}
