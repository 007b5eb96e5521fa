package flysim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// graphQL answers the queries and mutations of flyctl and fly-go: the requested
// fields under the requested names. A field unknown to flysim is null; an
// unknown root field is an error.
func (s *Sim) graphQL(c *call) (any, error) {
	var in struct {
		Query     string         `json:"query"`
		Operation string         `json:"operationName"`
		Variables map[string]any `json:"variables"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	fields, mutation, err := parseOperation(in.Query, in.Operation, in.Variables)
	if err != nil {
		return graphQLError("parse error, "+err.Error(), "PARSE_ERROR"), nil
	}
	kind, known := "Query", s.queryFields()
	if mutation {
		kind, known = "Mutation", s.mutationFields()
	}
	data := map[string]any{}
	for _, f := range fields {
		answer, ok := known[f.name]
		if !ok {
			return graphQLError(fmt.Sprintf("flysim does not implement the field '%s' of type '%s'", f.name, kind), "undefinedField"), nil
		}
		v, err := answer(f.args)
		if err != nil {
			r := err.(*apiError) // no other error comes from a root field
			return graphQLError(r.text, r.code), nil
		}
		data[f.alias] = f.resolve(v)
	}
	return map[string]any{"data": data}, nil
}

// A rootField resolves a root field of GraphQL. Its error is an apiError whose
// code is GraphQL's.
type rootField func(args map[string]any) (any, error)

func (s *Sim) queryFields() map[string]rootField {
	user := func(map[string]any) (any, error) {
		return map[string]any{"__typename": "User", "id": "user-1", "email": "you@example.com", "name": "you", "enablePaidHobby": false}, nil
	}
	return map[string]rootField{
		"__typename": func(map[string]any) (any, error) { return "Query", nil },
		"app": func(args map[string]any) (any, error) {
			if a := s.state.Apps[stringArg(args, "name")]; a != nil {
				return s.graphQLApp(a), nil
			}
			return nil, graphQLNotFound("Could not find App \"%s\"", stringArg(args, "name"))
		},
		"apps":             s.graphQLApps,
		"appNameAvailable": func(args map[string]any) (any, error) { return s.state.Apps[stringArg(args, "name")] == nil, nil },
		"machine":          s.graphQLMachine,
		"volume":           s.graphQLVolume,
		"organization": func(args map[string]any) (any, error) {
			return orgGraphQL(cmp.Or(stringArg(args, "slug"), stringArg(args, "name"), strings.TrimPrefix(stringArg(args, "id"), "org-"), "personal")), nil
		},
		"organizations": func(map[string]any) (any, error) {
			orgs := []any{}
			for _, slug := range s.orgSlugs() {
				orgs = append(orgs, orgGraphQL(slug))
			}
			return connection(orgs), nil
		},
		"viewer":        user,
		"currentUser":   user,
		"platform":      func(map[string]any) (any, error) { return platformGraphQL(), nil },
		"nearestRegion": func(map[string]any) (any, error) { return platformGraphQL()["regions"].([]any)[2], nil },
		"canPerformBluegreenDeployment": func(args map[string]any) (any, error) {
			return s.state.Apps[stringArg(args, "name")] != nil, nil
		},
		// Fly has newer versions of its own images only.
		"latestImageDetails": func(args map[string]any) (any, error) {
			return nil, graphQLNotFound("Unknown repository for image %s", stringArg(args, "image"))
		},
	}
}

// mutationFields returns the mutations that flyctl and fly-go still make by
// GraphQL.
func (s *Sim) mutationFields() map[string]rootField {
	return map[string]rootField{
		"deleteApp": func(args map[string]any) (any, error) {
			a, err := s.appByID(args)
			if err == nil {
				s.removeApp(a)
				return map[string]any{"organization": orgGraphQL(a.Org)}, nil
			}
			return nil, err
		},
		"allocateIpAddress": func(args map[string]any) (any, error) {
			a, err := s.appByID(args)
			if err != nil {
				return nil, err
			}
			ip, err := s.assignAddress(a, stringArg(args, "type"), stringArg(args, "region"))
			if err != nil {
				return nil, err
			}
			return map[string]any{"ipAddress": ip.(ipAddress).graphQL(), "app": s.graphQLApp(a)}, nil
		},
		"releaseIpAddress": func(args map[string]any) (any, error) {
			a, err := s.appByID(args)
			if err != nil {
				return nil, err
			}
			if !s.removeAddress(a, cmp.Or(stringArg(args, "ip"), stringArg(args, "ipAddressId"))) {
				return nil, graphQLNotFound("Could not find IPAddress")
			}
			return map[string]any{"clientMutationId": "", "app": s.graphQLApp(a)}, nil
		},
	}
}

// appByID returns the app of a mutation, by ID or name.
func (s *Sim) appByID(args map[string]any) (*app, error) {
	for _, a := range s.state.Apps {
		if id := stringArg(args, "appId"); a.ID == id || a.Name == id {
			return a, nil
		}
	}
	return nil, graphQLNotFound("Could not find App")
}

func (ip ipAddress) graphQL() map[string]any {
	return map[string]any{"id": ip.IP, "address": ip.IP, "type": ip.Kind, "region": cmp.Or(ip.Region, "global"), "createdAt": ip.CreatedAt, "serviceName": ip.Service}
}

func (s *Sim) graphQLApps(args map[string]any) (any, error) {
	nodes := []any{}
	if stringArg(args, "role") != "" {
		return connection(nodes), nil // databases, builders, …: flysim has none
	}
	for _, name := range slices.Sorted(maps.Keys(s.state.Apps)) {
		if org := strings.TrimPrefix(stringArg(args, "organizationId"), "org-"); org == "" || org == s.state.Apps[name].Org {
			nodes = append(nodes, s.graphQLApp(s.state.Apps[name]))
		}
	}
	return connection(nodes), nil
}

func (s *Sim) graphQLMachine(args map[string]any) (any, error) {
	for _, a := range s.state.Apps {
		if m := a.Machines[stringArg(args, "machineId")]; m != nil {
			return s.machineGraphQL(m), nil
		}
	}
	return nil, graphQLNotFound("Could not find Machine")
}

func (s *Sim) graphQLVolume(args map[string]any) (any, error) {
	for _, a := range s.state.Apps {
		if v := a.volumeByID(stringArg(args, "id")); v != nil {
			return map[string]any{"id": v.ID, "name": v.Name, "app": map[string]any{"id": a.ID, "name": a.Name}}, nil
		}
	}
	return nil, graphQLNotFound("Could not find Volume")
}

// graphQLApp returns all fields of an app.
func (s *Sim) graphQLApp(a *app) map[string]any {
	url := s.appURL(a.Name)
	_, host, _ := strings.Cut(url, "://")
	view := map[string]any{
		"__typename": "App", "id": a.ID, "internalNumericId": a.Number, "name": a.Name, "hostname": host, "appUrl": url, "status": a.Status,
		"deployed": a.Status == "deployed", "platformVersion": "machines", "version": len(a.Releases), "network": "default",
		"organization": orgGraphQL(a.Org), "cnameTarget": a.ID + "." + a.Name + ".fly.dev",
		"config": map[string]any{"definition": map[string]any{}}, "role": nil, "services": []any{}, "image": s.imageGraphQL(),
		"egressIpAddresses": connection(nil), "certificates": connection(nil), "addOns": connection(nil), "volumes": connection(nil),
		"machines": resolver(func(map[string]any) any { return s.machinesGraphQL(a) }), "createdAt": a.CreatedAt,
	}
	list := resolver(func(args map[string]any) any {
		nodes := []any{}
		for _, r := range a.newestReleases(max(intArg(args, "first"), 0)) {
			nodes = append(nodes, releaseGraphQL(r))
		}
		return connection(nodes)
	})
	view["releases"], view["releasesUnprocessed"] = list, list
	if r := a.newestReleases(1); len(r) > 0 {
		view["currentRelease"], view["currentReleaseUnprocessed"] = releaseGraphQL(r[0]), releaseGraphQL(r[0])
		view["config"] = map[string]any{"definition": r[0].definition()}
	}
	a.partsGraphQL(view)
	return view
}

// partsGraphQL adds an app's secrets and addresses.
func (a *app) partsGraphQL(view map[string]any) {
	secrets := []any{}
	for _, v := range a.secretViews() {
		secrets = append(secrets, map[string]any{"name": v.Name, "digest": v.Digest, "createdAt": v.CreatedAt})
	}
	view["secrets"] = secrets
	ips := []any{}
	for _, ip := range a.IPs {
		if ip.Shared {
			view["sharedIpAddress"] = ip.IP
			continue
		}
		ips = append(ips, ip.graphQL())
	}
	view["ipAddresses"] = connection(ips)
}

func (s *Sim) machinesGraphQL(a *app) any {
	nodes := []any{}
	for _, m := range a.sortedMachines() {
		if m.View.State != "destroyed" {
			nodes = append(nodes, s.machineGraphQL(m))
		}
	}
	return connection(nodes)
}

func (s *Sim) machineGraphQL(m *machine) map[string]any {
	return map[string]any{"__typename": "Machine", "id": m.View.ID, "name": m.View.Name, "state": m.View.State, "region": m.View.Region,
		"instanceId": m.View.InstanceID, "config": json.RawMessage(m.Config), "createdAt": m.View.CreatedAt,
		"app":  map[string]any{"id": m.app.ID, "name": m.app.Name, "organization": orgGraphQL(m.app.Org)},
		"host": map[string]any{"id": "host"}, "ips": connection(nil), "egressIpAddresses": connection(nil)}
}

// imageGraphQL resolves an image: null if it does not exist.
func (s *Sim) imageGraphQL() any {
	return resolver(func(args map[string]any) any {
		ref := stringArg(args, "ref")
		digest, ok := s.imageDigest(ref)
		if !ok || ref == "" {
			return nil
		}
		return map[string]any{"id": "img-" + digest, "digest": digest, "ref": ref, "compressedSize": "1048576", "compressedSizeFull": "1048576",
			"manifest": map[string]any{}}
	})
}

func releaseGraphQL(r *flyRelease) map[string]any {
	return map[string]any{"id": r.ID, "version": r.Version, "description": "Release", "reason": "change", "status": r.Status, "imageRef": r.ImageRef,
		"stable": r.Stable, "inProgress": r.InProgress, "deploymentStrategy": r.Strategy, "evaluationId": "", "createdAt": r.CreatedAt,
		"configDefinition": r.definition(), "metadata": r.Metadata, "user": map[string]any{"id": "user-1", "email": r.User, "name": "you"}}
}

func orgGraphQL(slug string) map[string]any {
	kind := "SHARED"
	if slug == "personal" {
		kind = "PERSONAL"
	}
	return map[string]any{"__typename": "Organization", "id": "org-" + slug, "internalNumericId": "1", "slug": slug, "rawSlug": slug, "name": slug,
		"type": kind, "paidPlan": true, "billable": true, "billingStatus": "CURRENT", "viewerRole": "admin", "provisionsBetaExtensions": false,
		"limitedAccessTokens": connection(nil), "addOns": connection(nil), "members": map[string]any{"edges": []any{}}}
}

func platformGraphQL() map[string]any {
	regions := []any{}
	for _, r := range regionList {
		regions = append(regions, map[string]any{"code": r[0], "name": r[1], "gatewayAvailable": true, "requiresPaidPlan": false, "deprecated": false})
	}
	return map[string]any{"requestRegion": "fra", "regions": regions, "vmSizes": []any{}}
}

// connection returns a GraphQL list as a single page.
func connection(nodes []any) map[string]any {
	if nodes == nil {
		nodes = []any{}
	}
	return map[string]any{"nodes": nodes, "totalCount": len(nodes), "pageInfo": map[string]any{"hasNextPage": false, "endCursor": ""}}
}

// stringArg returns an argument, also from inside an input object.
func stringArg(args map[string]any, name string) string {
	if in, ok := args["input"].(map[string]any); ok {
		args = in
	}
	v, _ := args[name].(string)
	return v
}

// intArg returns a number argument; 0 if it is not a number.
func intArg(args map[string]any, name string) int {
	switch n := args[name].(type) {
	case int64:
		return int(n)
	case float64:
		return int(n)
	}
	return 0
}

func graphQLNotFound(format string, args ...any) error {
	return &apiError{code: "NOT_FOUND", text: fmt.Sprintf(format, args...)}
}

func graphQLError(text, code string) any {
	return map[string]any{"data": nil, "errors": []any{map[string]any{"message": text, "extensions": map[string]any{"code": code}}}}
}
