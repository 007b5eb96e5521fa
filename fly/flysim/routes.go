package flysim

import (
	"net/http"
	"sync"
)

// routes returns all routes of a Sim.
func routes() []route {
	const (
		app     = "/v1/apps/{app}"
		machine = app + "/machines/{id}"
		volume  = app + "/volumes/{volume}"
		ui      = "/api/v1"
	)
	return []route{
		{"GET " + app + "/machines", (*Sim).listMachines, 0},
		{"POST " + app + "/machines", (*Sim).createMachine, slowChange},
		{"GET " + machine, (*Sim).getMachine, allowsDestroyed},
		{"POST " + machine, (*Sim).updateMachine, needsLease | slowChange},
		{"DELETE " + machine, (*Sim).destroyMachine, needsLease},
		{"GET " + machine + "/wait", (*Sim).waitMachine, locksItself | allowsDestroyed},
		{"POST " + machine + "/start", (*Sim).startMachine, needsLease},
		{"POST " + machine + "/stop", (*Sim).stopMachine, needsLease},
		{"POST " + machine + "/suspend", (*Sim).suspendMachine, needsLease},
		{"POST " + machine + "/restart", (*Sim).restartMachine, needsLease},
		{"POST " + machine + "/signal", (*Sim).signalMachine, 0},
		{"POST " + machine + "/exec", (*Sim).execMachine, 0},
		{"GET " + machine + "/ps", (*Sim).psMachine, locksItself},
		{"POST " + machine + "/cordon", (*Sim).cordonMachine, needsLease},
		{"POST " + machine + "/uncordon", (*Sim).cordonMachine, needsLease},
		{"GET " + machine + "/lease", (*Sim).getLease, 0},
		{"POST " + machine + "/lease", (*Sim).takeLease, 0},
		{"DELETE " + machine + "/lease", (*Sim).deleteLease, 0},
		{"GET " + machine + "/metadata", (*Sim).getMetadata, 0},
		{"POST " + machine + "/metadata/{key}", (*Sim).setMetadata, 0},
		{"DELETE " + machine + "/metadata/{key}", (*Sim).setMetadata, 0},

		{"GET /v1/apps", (*Sim).listApps, 0},
		{"POST /v1/apps", (*Sim).createApp, 0},
		{"GET " + app, (*Sim).getApp, 0},
		{"DELETE " + app, (*Sim).deleteApp, 0},
		{"GET " + app + "/secrets", (*Sim).listSecrets, 0},
		{"POST " + app + "/secrets", (*Sim).changeSecrets, 0},
		{"GET " + app + "/secrets/{name}", (*Sim).getSecret, 0},
		{"POST " + app + "/secrets/{name}", (*Sim).changeSecret, 0},
		{"DELETE " + app + "/secrets/{name}", (*Sim).changeSecret, 0},
		{"GET " + app + "/volumes", (*Sim).listVolumes, 0},
		{"POST " + app + "/volumes", (*Sim).createVolume, 0},
		{"GET " + volume, (*Sim).getVolume, 0},
		{"PUT " + volume, (*Sim).changeVolume, 0},
		{"PUT " + volume + "/extend", (*Sim).changeVolume, 0},
		{"DELETE " + volume, (*Sim).deleteVolume, 0},
		{"GET " + volume + "/snapshots", (*Sim).listSnapshots, 0},
		{"GET " + app + "/ip_assignments", (*Sim).listAddresses, 0},
		{"POST " + app + "/ip_assignments", (*Sim).createAddress, 0},
		{"DELETE " + app + "/ip_assignments/{ip}", (*Sim).deleteAddress, 0},
		{"GET /v1/platform/regions", (*Sim).listRegions, 0},
		{"POST /v1/platform/placements", (*Sim).listPlacements, unrecorded},

		{"POST " + ui + "/releases", (*Sim).createRelease, 0},
		{"PATCH " + ui + "/releases/{release}", (*Sim).updateRelease, 0},
		{"GET " + ui + "/releases/all_current", (*Sim).listCurrentReleases, 0},
		{"GET " + ui + "/apps/{app}/releases", (*Sim).listReleases, 0},
		{"GET " + ui + "/apps/{app}/releases/current", (*Sim).getCurrentRelease, 0},
		{"GET " + ui + "/apps/{app}/logs", (*Sim).listLogs, 0},
		{"POST " + ui + "/builds", (*Sim).recordBuild, unrecorded},
		{"POST " + ui + "/builds/finish", (*Sim).recordBuild, unrecorded},
		{"GET " + ui + "/organizations", (*Sim).listOrganizations, 0},
		{"GET " + ui + "/organizations/{org}", (*Sim).getOrganization, 0},
		{"POST /graphql", (*Sim).graphQL, unrecorded},
	}
}

// mux is shared by all Sims: a simResponse tells which Sim the request is for.
var mux = sync.OnceValue(func() *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range routes() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			to := w.(simResponse)
			to.sim.countRequest(to.ResponseWriter, rt.pattern)
			to.sim.serveRoute(to.ResponseWriter, r, rt)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.(simResponse).sim.countRequest(w, "/")
		writeAnswer(w, http.StatusNotFound, errorBody("flysim does not implement "+r.Method+" "+r.URL.Path, "unknown"))
	})
	return mux
})

// A simResponse is a ResponseWriter with the Sim that serves the request.
type simResponse struct {
	http.ResponseWriter
	sim *Sim
}
