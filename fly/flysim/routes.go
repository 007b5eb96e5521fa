package flysim

import (
	"net/http"
	"sync"
)

// routes are all the calls that a Sim answers.
func routes() []route {
	const (
		app     = "/v1/apps/{app}"
		machine = app + "/machines/{id}"
		volume  = app + "/volumes/{volume}"
		ui      = "/api/v1"
	)
	return []route{
		{"GET " + app + "/machines", (*Sim).listMachines, 0},
		{"POST " + app + "/machines", (*Sim).createMachine, slow},
		{"GET " + machine, (*Sim).getMachine, gone},
		{"POST " + machine, (*Sim).updateMachine, leased | slow},
		{"DELETE " + machine, (*Sim).destroyMachine, leased},
		{"GET " + machine + "/wait", (*Sim).waitMachine, unlocked | gone},
		{"POST " + machine + "/start", (*Sim).startMachine, leased},
		{"POST " + machine + "/stop", (*Sim).stopMachine, leased},
		{"POST " + machine + "/suspend", (*Sim).suspendMachine, leased},
		{"POST " + machine + "/restart", (*Sim).restartMachine, leased},
		{"POST " + machine + "/signal", (*Sim).signalMachine, 0},
		{"POST " + machine + "/exec", (*Sim).execMachine, 0},
		{"GET " + machine + "/ps", (*Sim).psMachine, unlocked},
		{"POST " + machine + "/cordon", (*Sim).cordonMachine, leased},
		{"POST " + machine + "/uncordon", (*Sim).cordonMachine, leased},
		{"GET " + machine + "/lease", (*Sim).showLease, 0},
		{"POST " + machine + "/lease", (*Sim).takeLease, 0},
		{"DELETE " + machine + "/lease", (*Sim).dropLease, 0},
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
		{"GET " + volume + "/snapshots", (*Sim).noSnapshots, 0},
		{"GET " + app + "/ip_assignments", (*Sim).listIPs, 0},
		{"POST " + app + "/ip_assignments", (*Sim).assignIP, 0},
		{"DELETE " + app + "/ip_assignments/{ip}", (*Sim).dropIP, 0},
		{"GET /v1/platform/regions", (*Sim).regions, 0},
		{"POST /v1/platform/placements", (*Sim).placements, silent},

		{"POST " + ui + "/releases", (*Sim).createRelease, 0},
		{"PATCH " + ui + "/releases/{release}", (*Sim).updateRelease, 0},
		{"GET " + ui + "/releases/all_current", (*Sim).currentReleases, 0},
		{"GET " + ui + "/apps/{app}/releases", (*Sim).listReleases, 0},
		{"GET " + ui + "/apps/{app}/releases/current", (*Sim).currentRelease, 0},
		{"GET " + ui + "/apps/{app}/logs", (*Sim).logs, 0},
		{"POST " + ui + "/builds", (*Sim).build, silent},
		{"POST " + ui + "/builds/finish", (*Sim).build, silent},
		{"GET " + ui + "/organizations", (*Sim).organizations, 0},
		{"GET " + ui + "/organizations/{org}", (*Sim).organization, 0},
		{"POST /graphql", (*Sim).graphQL, silent},
	}
}

// mux is that of all Sims: whom a request is for comes with its answer.
var mux = sync.OnceValue(func() *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range routes() {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			to := w.(addressed)
			to.sim.count(to.ResponseWriter, rt.pattern)
			to.sim.serve(to.ResponseWriter, r, rt)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.(addressed).sim.count(w, "/")
		answer(w, http.StatusNotFound, errorBody("flysim does not know "+r.Method+" "+r.URL.Path, "unknown"))
	})
	return mux
})

// addressed is an answer, and the Sim that is to give it.
type addressed struct {
	http.ResponseWriter
	sim *Sim
}
