package flysim

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
)

// graphQL answers the questions that flyctl and fly-go ask. It does not parse
// them: it looks at which root field and variables there are, and gives
// everything it knows under the names they use. Clients ignore the rest.
func (s *Sim) graphQL(c *call) (any, error) {
	var in struct {
		Query     string         `json:"query"`
		Variables map[string]any `json:"variables"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	q := question{in.Query, in.Variables}
	data := map[string]any{}
	switch {
	case q.asks("canPerformBluegreenDeployment"):
		data["canPerformBluegreenDeployment"] = true
	case q.asks("createRelease"), q.asks("updateRelease"), q.asks("mutation"):
		return graphQLError("flysim does not know this mutation", "UNSUPPORTED"), nil
	case q.asks("app(") || q.asks("appcompact:") || q.asks("appbasic:"):
		a := s.world.Apps[q.text("appName", "name", "app")]
		if a == nil {
			return graphQLError("Could not find App", "NOT_FOUND"), nil
		}
		view := s.graphQLApp(a, q)
		for _, alias := range []string{"app", "appcompact", "appbasic"} {
			data[alias] = view
		}
	case q.asks("apps("), q.asks("apps{"):
		data["apps"] = map[string]any{"pageInfo": map[string]any{"hasNextPage": false, "endCursor": ""}, "nodes": s.graphQLApps(q)}
	}
	s.graphQLRest(data, q)
	return map[string]any{"data": data}, nil
}

// graphQLRest answers what is not about an app.
func (s *Sim) graphQLRest(data map[string]any, q question) {
	user := map[string]any{"__typename": "User", "id": "user-1", "email": "you@example.com", "name": "you", "enablePaidHobby": false}
	data["viewer"], data["currentUser"] = user, user
	var orgs []any
	for _, slug := range s.orgs() {
		orgs = append(orgs, orgGraphQL(slug))
	}
	data["organizations"] = map[string]any{"nodes": orgs}
	if q.asks("organization(") {
		data["organization"] = orgGraphQL(cmp.Or(q.text("slug", "orgSlug", "name"), "personal"))
	}
	if q.asks("platform") {
		platform, _ := s.regions(nil)
		regions := platform.(map[string]any)["Regions"].([]any)
		data["platform"] = map[string]any{"requestRegion": "fra", "regions": regions, "vmSizes": []any{}}
	}
}

func (s *Sim) graphQLApps(q question) []any {
	out := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.world.Apps)) {
		out = append(out, s.graphQLApp(s.world.Apps[name], q))
	}
	return out
}

func (s *Sim) graphQLApp(a *app, q question) map[string]any {
	url := s.url(a.Name)
	_, host, _ := strings.Cut(url, "://")
	view := map[string]any{
		"id": a.ID, "internalNumericId": a.Number, "name": a.Name, "hostname": host, "appUrl": url, "status": a.Status,
		"deployed": a.Status == "deployed", "platformVersion": "machines", "version": len(a.Releases), "network": "default",
		"organization": orgGraphQL(a.Org), "cnameTarget": a.ID + "." + a.Name + ".fly.dev", "sharedIpAddress": "",
		"config": map[string]any{"definition": map[string]any{}}, "role": nil, "services": []any{},
		"egressIpAddresses": map[string]any{"nodes": []any{}}, "certificates": map[string]any{"nodes": []any{}},
	}
	nodes := []any{}
	for _, r := range a.newest(25) {
		nodes = append(nodes, releaseGraphQL(r))
	}
	for _, name := range []string{"releases", "releasesUnprocessed"} {
		view[name] = map[string]any{"nodes": nodes}
	}
	for _, name := range []string{"currentRelease", "currentReleaseUnprocessed"} {
		view[name] = nil
		if len(nodes) > 0 {
			view[name] = nodes[0]
		}
	}
	s.graphQLParts(view, a, q)
	return view
}

// graphQLParts adds an app's secrets, addresses, machines and the image that
// the question names.
func (s *Sim) graphQLParts(view map[string]any, a *app, q question) {
	secrets := []any{}
	for _, v := range a.shownSecrets() {
		secrets = append(secrets, map[string]any{"name": v.Name, "digest": v.Digest, "createdAt": v.CreatedAt})
	}
	view["secrets"] = secrets
	ips := []any{}
	for _, ip := range a.IPs {
		ips = append(ips, map[string]any{"id": ip.IP, "address": ip.IP, "type": ip.Kind, "region": ip.Region, "createdAt": ip.CreatedAt})
	}
	view["ipAddresses"] = map[string]any{"nodes": ips}
	machines := []any{}
	for _, m := range a.sorted() {
		if v := m.view(); v.State != "destroyed" {
			machines = append(machines, map[string]any{"id": v.ID, "name": v.Name, "state": v.State, "region": v.Region,
				"createdAt": v.CreatedAt, "app": map[string]any{"name": a.Name}, "host": map[string]any{"id": "host"}, "ips": map[string]any{"nodes": []any{}}})
		}
	}
	view["machines"] = map[string]any{"nodes": machines}
	if ref := q.text("imageRef", "image", "ref"); ref != "" {
		view["image"] = nil
		if digest, ok := s.digest(ref); ok {
			view["image"] = map[string]any{"id": "img-" + digest, "digest": digest, "ref": ref, "compressedSize": "1048576", "compressedSizeFull": "1048576",
				"manifest": map[string]any{}}
		}
	}
}

func releaseGraphQL(r *fly.FlyRelease) map[string]any {
	return map[string]any{"id": r.ID, "version": r.Version, "description": "Release", "reason": "change", "status": r.Status, "imageRef": r.ImageRef,
		"stable": r.Stable, "inProgress": r.InProgress, "deploymentStrategy": r.Strategy, "evaluationId": "", "createdAt": r.CreatedAt,
		"user": map[string]any{"id": "user-1", "email": r.User, "name": "you"}}
}

func orgGraphQL(slug string) map[string]any {
	kind := "SHARED"
	if slug == "personal" {
		kind = "PERSONAL"
	}
	return map[string]any{"id": "org-" + slug, "internalNumericId": "1", "slug": slug, "rawSlug": slug, "name": slug, "type": kind, "paidPlan": true,
		"billable": true, "viewerRole": "admin", "limitedAccessTokens": map[string]any{"nodes": []any{}}}
}

// A question is a GraphQL query and its variables.
type question struct {
	query     string
	variables map[string]any
}

func (q question) asks(word string) bool {
	return strings.Contains(strings.ReplaceAll(q.query, " ", ""), word)
}

// text is the first of the variables that is there, also inside of an input.
func (q question) text(names ...string) string {
	for _, name := range names {
		if v, ok := q.variables[name].(string); ok && v != "" {
			return v
		}
	}
	if in, ok := q.variables["input"].(map[string]any); ok {
		return question{variables: in}.text(names...)
	}
	return ""
}

func graphQLError(text, code string) any {
	return map[string]any{"data": nil, "errors": []any{map[string]any{"message": text, "extensions": map[string]any{"code": code}}}}
}
