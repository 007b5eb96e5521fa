package flysim

import (
	"net/http"
	"slices"
	"sync"
)

// Paths of the Machines API, and of the API for releases, logs and organizations.
const (
	appPath     = "/v1/apps/{app}"
	machinePath = appPath + "/machines/{id}"
	volumePath  = appPath + "/volumes/{volume}"
	uiPath      = "/api/v1"
)

// routes returns all routes of a Sim.
func routes() []route { return slices.Concat(machineRoutes(), appRoutes(), uiRoutes()) }

func machineRoutes() []route {
	return []route{
		{"GET " + appPath + "/machines", (*Sim).listMachines, 0},
		{"POST " + appPath + "/machines", (*Sim).createMachine, slowChange},
		{"GET " + machinePath, (*Sim).getMachine, allowsDestroyed},
		{"POST " + machinePath, (*Sim).updateMachine, needsLease | slowChange},
		{"DELETE " + machinePath, (*Sim).destroyMachine, needsLease},
		{"GET " + machinePath + "/wait", (*Sim).waitMachine, locksItself | allowsDestroyed},
		{"POST " + machinePath + "/start", (*Sim).startMachine, needsLease},
		{"POST " + machinePath + "/stop", (*Sim).stopMachine, needsLease},
		{"POST " + machinePath + "/suspend", (*Sim).suspendMachine, needsLease},
		{"POST " + machinePath + "/restart", (*Sim).restartMachine, needsLease},
		{"POST " + machinePath + "/signal", (*Sim).signalMachine, 0},
		{"POST " + machinePath + "/exec", (*Sim).execMachine, 0},
		{"GET " + machinePath + "/ps", (*Sim).psMachine, locksItself},
		{"POST " + machinePath + "/cordon", (*Sim).cordonMachine, needsLease},
		{"POST " + machinePath + "/uncordon", (*Sim).cordonMachine, needsLease},
		{"GET " + machinePath + "/lease", (*Sim).getLease, 0},
		{"POST " + machinePath + "/lease", (*Sim).takeLease, 0},
		{"DELETE " + machinePath + "/lease", (*Sim).deleteLease, 0},
		{"GET " + machinePath + "/metadata", (*Sim).getMetadata, 0},
		{"POST " + machinePath + "/metadata/{key}", (*Sim).setMetadata, 0},
		{"DELETE " + machinePath + "/metadata/{key}", (*Sim).setMetadata, 0},
	}
}

func appRoutes() []route {
	return []route{
		{"GET /v1/apps", (*Sim).listApps, 0},
		{"POST /v1/apps", (*Sim).createApp, 0},
		{"GET " + appPath, (*Sim).getApp, 0},
		{"DELETE " + appPath, (*Sim).deleteApp, 0},
		{"GET " + appPath + "/secrets", (*Sim).listSecrets, 0},
		{"POST " + appPath + "/secrets", (*Sim).changeSecrets, 0},
		{"GET " + appPath + "/secrets/{name}", (*Sim).getSecret, 0},
		{"POST " + appPath + "/secrets/{name}", (*Sim).changeSecret, 0},
		{"DELETE " + appPath + "/secrets/{name}", (*Sim).changeSecret, 0},
		{"GET " + appPath + "/volumes", (*Sim).listVolumes, 0},
		{"POST " + appPath + "/volumes", (*Sim).createVolume, 0},
		{"GET " + volumePath, (*Sim).getVolume, 0},
		{"PUT " + volumePath, (*Sim).changeVolume, 0},
		{"PUT " + volumePath + "/extend", (*Sim).changeVolume, 0},
		{"DELETE " + volumePath, (*Sim).deleteVolume, 0},
		{"GET " + volumePath + "/snapshots", (*Sim).listSnapshots, 0},
		{"GET " + appPath + "/ip_assignments", (*Sim).listAddresses, 0},
		{"POST " + appPath + "/ip_assignments", (*Sim).createAddress, 0},
		{"DELETE " + appPath + "/ip_assignments/{ip}", (*Sim).deleteAddress, 0},
		{"GET /v1/platform/regions", (*Sim).listRegions, 0},
		{"POST /v1/platform/placements", (*Sim).listPlacements, unrecorded},
	}
}

func uiRoutes() []route {
	return []route{
		{"POST " + uiPath + "/releases", (*Sim).createRelease, 0},
		{"PATCH " + uiPath + "/releases/{release}", (*Sim).updateRelease, 0},
		{"GET " + uiPath + "/releases/all_current", (*Sim).listCurrentReleases, 0},
		{"GET " + uiPath + "/apps/{app}/releases", (*Sim).listReleases, 0},
		{"GET " + uiPath + "/apps/{app}/releases/current", (*Sim).getCurrentRelease, 0},
		{"GET " + uiPath + "/apps/{app}/logs", (*Sim).listLogs, 0},
		{"POST " + uiPath + "/builds", (*Sim).recordBuild, unrecorded},
		{"POST " + uiPath + "/builds/finish", (*Sim).recordBuild, unrecorded},
		{"GET " + uiPath + "/organizations", (*Sim).listOrganizations, 0},
		{"GET " + uiPath + "/organizations/{org}", (*Sim).getOrganization, 0},
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
