package flysim_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"github.com/microbima/release/fly"
)

// TestGraphQL: a response has the requested fields under the requested names,
// and no others.
func TestGraphQL(t *testing.T) {
	sim := newSim(t, "blog")
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(checked)})
	sim.SetSecrets("shop", map[string]string{"KEY": "1"})
	c := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}}
	for range 3 {
		r, err := c.CreateRelease(t.Context(), fly.NewRelease{App: "shop", Image: "shop:1", Strategy: "rolling", Definition: json.RawMessage(`{"app":"shop"}`)})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.UpdateRelease(t.Context(), r.ID, "complete", ""); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ query, variables, want string }{
		"a field": {`{ app(name: "shop") { name } }`, `{}`, `{"app":{"name":"shop"}}`},
		"aliases": {`query Q($n: String!) { a: app(name: $n) { title: name } b: app(name: "blog") { name, status } }`, `{"n":"shop"}`,
			`{"a":{"title":"shop"},"b":{"name":"blog","status":"pending"}}`},
		"an unknown field": {`{ app(name: "shop") { favouriteColour { name } } }`, `{}`, `{"app":{"favouriteColour":null}}`},
		"a limited list": {`query ($n: Int = 2) { app(name: "shop") { releases: releasesUnprocessed(first: $n) { nodes { version status } } } }`, `{}`,
			`{"app":{"releases":{"nodes":[{"version":3,"status":"complete"},{"version":2,"status":"complete"}]}}}`},
		"a JSON scalar": {`{ app(name: "shop") { currentReleaseUnprocessed { configDefinition } } }`, `{}`,
			`{"app":{"currentReleaseUnprocessed":{"configDefinition":{"app":"shop"}}}}`},
		"a null object": {`{ app(name: "blog") { currentRelease { version } } }`, `{}`, `{"app":{"currentRelease":null}}`},
		"fragments": {"fragment Org on Organization { slug ...Deep }\n# a comment {\nfragment Deep on Organization { rawSlug }\nquery { app(name: \"shop\") { ...About } }\nfragment About on App { secrets { name } organization { ...Org } }", `{}`,
			`{"app":{"secrets":[{"name":"KEY"}],"organization":{"slug":"personal","rawSlug":"personal"}}}`},
		"a field requested twice": {`{ app(name: "shop") { organization { slug } ...A } } fragment A on App { organization { name } }`, `{}`,
			`{"app":{"organization":{"slug":"personal","name":"personal"}}}`},
		"a root field requested twice": {`{ app(name: "shop") { name } app(name: "shop") { status } }`, `{}`, `{"app":{"name":"shop","status":"deployed"}}`},
		"literals":                     {`mutation { allocateIpAddress(input: {appId: "blog", type: private_v6, tags: ["a", """b"""], n: -1}) { app { name } } }`, `{}`, `{"allocateIpAddress":{"app":{"name":"blog"}}}`},
		"nested type conditions":       {`{ viewer { ... on User { ... on Macaroon { id } ...U } } } fragment U on User { name @include(if: true) }`, `{}`, `{"viewer":{"name":"you"}}`},
		"type conditions":              {`{ viewer { ... on User { email } ... on Macaroon { id } } }`, `{}`, `{"viewer":{"email":"you@example.com"}}`},
		"directives": {`query ($yes: Boolean!) { app(name: "shop") { name @include(if: $yes) id @skip(if: $yes) status @include(if: false) } }`, `{"yes":true}`,
			`{"app":{"name":"shop"}}`},
		"an argument of a nested field": {`{ app(name: "shop") { image(ref: "shop:9@sha256:aa") { digest size: compressedSizeFull } } }`, `{}`,
			`{"app":{"image":{"digest":"sha256:aa","size":"1048576"}}}`},
		"machines": {`{ app(name: "shop") { machines { nodes { id app { name } } } } machine(machineId: "m1") { app { name } } }`, `{}`,
			`{"app":{"machines":{"nodes":[{"id":"m1","app":{"name":"shop"}}]}},"machine":{"app":{"name":"shop"}}}`},
		"all apps": {`{ apps(type: "container", first: 200) { pageInfo { hasNextPage } nodes { name currentRelease { status } } } }`, `{}`,
			`{"apps":{"pageInfo":{"hasNextPage":false},"nodes":[{"name":"blog","currentRelease":null},{"name":"shop","currentRelease":{"status":"complete"}}]}}`},
		"apps of another role": {`query ($role: String) { apps(type: "container", role: $role) { nodes { name } } }`, `{"role":"postgres_cluster"}`, `{"apps":{"nodes":[]}}`},
		"a shared address is not in ipAddresses": {`mutation ($in: X!) { allocateIpAddress(input: $in) { app { sharedIpAddress ipAddresses { nodes { id } } } } }`,
			`{"in":{"appId":"shop","type":"shared_v4"}}`, `{"allocateIpAddress":{"app":{"sharedIpAddress":"66.241.124.1","ipAddresses":{"nodes":[]}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			query, _ := json.Marshal(test.query)
			code, got := request(t, sim, "POST", "/graphql", `{"query":`+string(query)+`,"variables":`+test.variables+`}`)
			var want any
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			if code != 200 || !reflect.DeepEqual(valueAt(got, "data"), want) {
				t.Errorf("%d %v, want %v", code, got, want)
			}
		})
	}
}

// TestGraphQL_OperationName: of several operations, the named one is executed.
func TestGraphQL_OperationName(t *testing.T) {
	sim := newSim(t, "shop")
	const query = `"query A { app(name: \"shop\") { id } } query B { app(name: \"shop\") { name } }"`
	_, got := request(t, sim, "POST", "/graphql", `{"operationName":"B","query":`+query+`}`)
	if want := map[string]any{"app": map[string]any{"name": "shop"}}; !reflect.DeepEqual(valueAt(got, "data"), want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, got = request(t, sim, "POST", "/graphql", `{"query":`+query+`}`); valueAt(got, "errors", 0, "extensions", "code") != "PARSE_ERROR" {
		t.Errorf("without an operation name: %v", got)
	}
}

func TestGraphQL_Errors(t *testing.T) {
	sim := newSim(t, "shop")
	for query, want := range map[string]string{
		`{ app(name: "missing") { id } }`:                       "NOT_FOUND",
		`{ latestImageDetails(image: "shop:1") { tag } }`:       "NOT_FOUND",
		`{ weather { tomorrow } }`:                              "undefinedField",
		`mutation { dropDatabase { ok } }`:                      "undefinedField",
		`{ app(name: "shop") { id `:                             "PARSE_ERROR",
		`{ app(name: "shop") ...A } fragment A on App { ...A }`: "PARSE_ERROR",
		`{ app(name: "shop") { ...A } }`:                        "PARSE_ERROR",
	} {
		body, _ := json.Marshal(map[string]string{"query": query})
		code, got := request(t, sim, "POST", "/graphql", string(body))
		if code != 200 || valueAt(got, "errors", 0, "extensions", "code") != want {
			t.Errorf("%s: %d %v, want %s", query, code, got, want)
		}
	}
}
