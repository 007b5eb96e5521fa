package devserver

import (
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

// refresh is the interval at which Temporal's services reload namespaces.
const refresh = 200 * time.Millisecond

// clusterName is the cluster name of Temporal's own development server.
const clusterName = "active"

func serverOptions(p portNumbers, sql *config.SQL, logger log.Logger) []temporal.ServerOption {
	return []temporal.ServerOption{
		temporal.WithConfig(serverConfig(p, sql)),
		temporal.WithDynamicConfigClient(dynamicConfig()),
		temporal.ForServices(temporal.DefaultServices),
		// Known hosts instead of gossip: no membership ports, no seconds of
		// joining, and no members left over from a killed process.
		temporal.WithStaticHosts(map[primitives.ServiceName]static.Hosts{
			primitives.FrontendService: static.SingleLocalHost(hostPort(p.frontend)),
			primitives.HistoryService:  static.SingleLocalHost(hostPort(p.history)),
			primitives.MatchingService: static.SingleLocalHost(hostPort(p.matching)),
			primitives.WorkerService:   static.SingleLocalHost(hostPort(p.worker)),
		}),
		temporal.WithLogger(logger),
		temporal.WithCustomMetricsHandler(metrics.NoopMetricsHandler),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper {
			return authorization.NewNoopClaimMapper()
		}),
	}
}

func serverConfig(p portNumbers, sql *config.SQL) *config.Config {
	// No HTTP ports: Temporal's HTTP API accepts requests from any web page.
	service := func(port int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: loopback}}
	}
	return &config.Config{
		Global: config.Global{
			Membership: config.Membership{BroadcastAddress: loopback},
		},
		Persistence: config.Persistence{
			DefaultStore:     sqlite.PluginName,
			VisibilityStore:  sqlite.PluginName,
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{sqlite.PluginName: {SQL: sql}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: hostPort(p.frontend)},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services: map[string]config.Service{
			string(primitives.FrontendService): service(p.frontend),
			string(primitives.HistoryService):  service(p.history),
			string(primitives.MatchingService): service(p.matching),
			string(primitives.WorkerService):   service(p.worker),
		},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
		PublicClient: config.PublicClient{HostPort: hostPort(p.frontend)},
	}
}

func dynamicConfig() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		// One shard at the default of 20 polls a second makes each step of a
		// workflow wait up to 50 ms.
		dynamicconfig.TransferProcessorMaxPollRPS.Key():   1000,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():      1000,
		dynamicconfig.VisibilityProcessorMaxPollRPS.Key(): 1000,
		// By default, timers below a second are rounded up to one.
		dynamicconfig.TimerProcessorMaxTimeShift.Key(): "1ms",
		// At the default of 10 lists a second, status pages wait in silent retries.
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 1000,
		// With one partition, tasks are handed out in order, and no poll waits at an
		// empty partition.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		// Tasks of equal priority are handed out in turn for each project.
		dynamicconfig.MatchingEnableFairness.Key(): true,
		// A laptop runs few releases at a time.
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():     2000,
		dynamicconfig.EventsHostLevelCacheMaxSizeBytes.Key(): 32 << 20,
		// The delay until a new attribute is usable. The alternative, reading the
		// namespace for each request, asks the database twice per row: a list of 500
		// workflows takes seconds, one of 1,000 fails.
		dynamicconfig.NamespaceCacheRefreshInterval.Key(): refresh,
		// A workflow that panics is retried within 10 seconds after its worker is
		// fixed, not after 10 minutes.
		dynamicconfig.WorkflowTaskRetryMaxInterval.Key(): "10s",
		// It would query a server on the internet.
		dynamicconfig.EnableServerVersionCheck.Key(): false,
	}
}
