package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema"
	temporalserver "go.temporal.io/server/temporal"

	"github.com/microbima/release/internal/devserver"
)

// databases are the two databases of Temporal and the paths of their schemas in the module.
var databases = map[string]string{
	"temporal":            "postgresql/v12/temporal/schema.sql",
	"temporal_visibility": "postgresql/v12/visibility/schema.sql",
}

// postgresBin returns the directory of PostgreSQL's server programs, or "". Debian does not
// put them into PATH.
func postgresBin() string {
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if path, err := exec.LookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(path))
	}
	i := slices.IndexFunc(folders, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "initdb"))
		return err == nil
	})
	if i < 0 {
		return ""
	}
	return folders[i]
}

// runDatabase runs a PostgreSQL with the databases of Temporal. It writes a line when it is
// ready.
func (j processJob) runDatabase() (end func() error, err error) {
	data := filepath.Join(j.Dir, "data")
	made := exec.Command(filepath.Join(postgresBin(), "initdb"), "--pgdata="+data, "--username=temporal", "--auth=trust", "--encoding=UTF8", "--no-locale")
	server := exec.Command(filepath.Join(postgresBin(), "postgres"), "-D", data, "-p", strconv.Itoa(j.Port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "log_min_messages=fatal")
	for _, cmd := range []*exec.Cmd{made, server} {
		if err := runUnprivileged(cmd, j.Dir); err != nil {
			return nil, err
		}
		cmd.Dir, cmd.Stderr = j.Dir, os.Stderr
	}
	if err := errors.Join(made.Run(), server.Start()); err != nil {
		return nil, fmt.Errorf("PostgreSQL in %s: %w", j.Dir, err)
	}
	end = func() error { return errors.Join(server.Process.Signal(os.Interrupt), server.Wait()) }
	for name, file := range databases {
		if err := j.createDatabase(name, file); err != nil {
			return nil, errors.Join(fmt.Errorf("create database %s: %w", name, err), end())
		}
	}
	fmt.Println("ready")
	return end, nil
}

// createDatabase creates a database with the embedded schema, like
// infra/compose/scripts/schema.sh.
func (j processJob) createDatabase(name, file string) error {
	statements, err := fs.ReadFile(schema.Assets(), file)
	if err != nil {
		return err
	}
	first, err := j.openAdmin("postgres")
	if err != nil {
		return err
	}
	err = first.CreateDatabase(name)
	for end := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(end); err = first.CreateDatabase(name) {
		time.Sleep(100 * time.Millisecond) // the server has just started
	}
	if err := errors.Join(err, first.Close()); err != nil {
		return err
	}
	db, err := j.openAdmin(name)
	if err != nil {
		return err
	}
	version := db.ExpectedVersion()
	return errors.Join(db.CreateSchemaVersionTables(), db.Exec(string(statements)), db.UpdateSchemaVersion(name, version, version), db.Close())
}

func (j processJob) openAdmin(database string) (sqlplugin.AdminDB, error) {
	kind := sqlplugin.DbKindMain
	if database == "temporal_visibility" {
		kind = sqlplugin.DbKindVisibility
	}
	return sql.NewSQLAdminDB(kind, &config.SQL{
		PluginName: postgresql.PluginName, User: "temporal", DatabaseName: database,
		ConnectAddr: net.JoinHostPort("127.0.0.1", strconv.Itoa(j.Port)), ConnectProtocol: "tcp",
	}, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
}

// runTemporalOnPostgres runs Temporal's own server as docker-compose.yml does: with its
// embedded configuration, the same environment, and our dynamic configuration.
func (j processJob) runTemporalOnPostgres() (end func() error, err error) {
	for name, value := range map[string]string{
		"DB": postgresql.PluginName, "DB_PORT": strconv.Itoa(j.Database), "POSTGRES_SEEDS": "127.0.0.1", "POSTGRES_USER": "temporal",
		"DBNAME": "temporal", "VISIBILITY_DBNAME": "temporal_visibility", "NUM_HISTORY_SHARDS": "4", "BIND_ON_IP": "127.0.0.1",
		"TEMPORAL_BROADCAST_ADDRESS": "127.0.0.1", "DYNAMIC_CONFIG_FILE_PATH": "../../infra/compose/dynamicconfig/release.yaml",
		"FRONTEND_GRPC_PORT": strconv.Itoa(j.Port), "FRONTEND_HTTP_PORT": "0",
	} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	for i, name := range []string{
		"FRONTEND_MEMBERSHIP", "HISTORY_GRPC", "HISTORY_MEMBERSHIP", "MATCHING_GRPC", "MATCHING_MEMBERSHIP", "WORKER_GRPC", "WORKER_MEMBERSHIP",
	} {
		if err := os.Setenv(name+"_PORT", strconv.Itoa(j.Port+1+i)); err != nil {
			return nil, err
		}
	}
	cfg, err := config.Load(config.WithEmbedded())
	if err != nil {
		return nil, err
	}
	s, err := temporalserver.NewServer(temporalserver.ForServices(temporalserver.DefaultServices), temporalserver.WithConfig(cfg), temporalserver.WithLogger(log.NewNoopLogger()),
		temporalserver.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporalserver.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return authorization.NewNoopClaimMapper() }))
	if err != nil {
		return nil, err
	}
	return s.Stop, s.Start()
}

// freePorts returns the first of n consecutive ports without a listener. The ports are
// reused after kills, so they lie below the range of outgoing connections.
func freePorts(ctx context.Context, n int) (int, error) {
	for ctx.Err() == nil {
		first, err := devserver.Listen(0, "a test")
		if err != nil {
			return 0, err
		}
		port := first.Addr().(*net.TCPAddr).Port
		held := []net.Listener{first}
		for i := 1; i < n && err == nil; i++ {
			var l net.Listener
			if l, err = devserver.Listen(port+i, "a test"); err == nil {
				held = append(held, l)
			}
		}
		for _, l := range held {
			l.Close()
		}
		if err == nil {
			return port, nil
		}
	}
	return 0, ctx.Err()
}
