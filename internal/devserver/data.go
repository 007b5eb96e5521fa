package devserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/headers"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

// retention is how long the history of closed workflows is kept. Temporal's default of
// a day would lose the history of releases.
const retention = 365 * 24 * time.Hour

// An OwnedError says that another process uses the file. Two servers on one file would
// conflict over each workflow.
type OwnedError struct {
	File    string
	PID     int    // 0 if unknown
	Address string // of its Temporal server, or ""
	UI      string // of its Web UI, or ""
}

func (e *OwnedError) Error() string {
	owner := "another process"
	if e.PID != 0 {
		owner = fmt.Sprintf("process %d", e.PID)
	}
	if e.Address != "" {
		owner += ", which serves Temporal at " + e.Address
	}
	return fmt.Sprintf("%s is in use by %s: use that server, or stop it first", e.File, owner)
}

// A VersionError says that another version of Temporal server wrote the file. Temporal
// does not migrate SQLite, so opening the file could damage it.
type VersionError struct {
	File     string
	Wrote    string // "" if unknown
	Embedded string
}

func (e *VersionError) Error() string {
	wrote := "Temporal server " + e.Wrote
	if e.Wrote == "" {
		wrote = "an unknown version of Temporal server"
	}
	return fmt.Sprintf("%s was written by %s, this program has %s, and no migration exists between them: "+
		"finish its releases with the program that wrote it, then move %s away",
		e.File, wrote, e.Embedded, filepath.Dir(e.File))
}

// A LostError says that the file had a history before and is now empty or missing.
type LostError struct{ File string }

func (e *LostError) Error() string {
	return fmt.Sprintf("%s had the history of releases and is now empty or missing: restore it from a copy, or start without it by `release dev --reset`", e.File)
}

// A database is Temporal's database and the lock on it.
type database struct {
	sql        *config.SQL
	file       string // "": in memory
	record     string
	fileLock   *flock.Flock
	hasHistory bool // the file had its tables before this start
}

// An ownerRecord is stored next to the file: its writer's version and its owner.
type ownerRecord struct {
	Server  string `json:"server"` // version of Temporal server
	PID     int    `json:"pid"`
	Address string `json:"address,omitempty"`
	UI      string `json:"ui,omitempty"`
	Filled  bool   `json:"filled,omitempty"` // the tables were created
}

func openDatabase(dir string) (*database, error) {
	if dir == "" {
		return &database{sql: &config.SQL{
			PluginName:        sqliteplugin.PluginName,
			DatabaseName:      uuid.NewString(), // unique: servers in one process must not share it
			ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
		}}, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory for Temporal: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory for Temporal: %w", err)
	}
	d := &database{
		file:     filepath.Join(dir, "temporal.db"),
		record:   filepath.Join(dir, "temporal.json"),
		fileLock: flock.New(filepath.Join(dir, "temporal.lock")),
	}
	d.sql = &config.SQL{
		PluginName: sqliteplugin.PluginName,
		// It becomes part of a URL, in which ?, # and % are special.
		DatabaseName: (&url.URL{Path: filepath.ToSlash(d.file)}).EscapedPath(),
		MaxConns:     1, // SQLite has one writer; further connections would conflict
		MaxIdleConns: 1,
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "wal",
			// An acknowledged approval must survive a power failure.
			"synchronous": "full",
		},
	}
	if err := d.acquire(); err != nil {
		d.fileLock.Close()
		return nil, err
	}
	return d, nil
}

// acquire locks the file and checks that this program can use it.
func (d *database) acquire() error {
	locked, err := d.fileLock.TryLock()
	if err != nil {
		return fmt.Errorf("locking %s: %w", d.fileLock.Path(), err)
	}
	known, err := readRecord(d.record)
	if !locked {
		return &OwnedError{File: d.file, PID: known.PID, Address: known.Address, UI: known.UI}
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(d.file)
	empty := err != nil || info.Size() == 0
	d.hasHistory = known.Filled
	if known.Filled && empty && d.isLogEmpty() {
		return &LostError{File: d.file}
	}
	if known.Server != headers.ServerVersion && (known.Server != "" || !empty) {
		return &VersionError{File: d.file, Wrote: known.Server, Embedded: headers.ServerVersion}
	}
	return nil
}

// isLogEmpty reports whether SQLite's write-ahead log is empty or missing. Before the
// first checkpoint it has all data.
func (d *database) isLogEmpty() bool {
	log, err := os.Stat(d.file + "-wal")
	return err != nil || log.Size() == 0
}

// prepare writes the record, the tables and the namespace of a server. It is safe to
// repeat after it was killed at any point.
func (d *database) prepare(address, ui, namespace string, attributes []string) error {
	if d.file != "" {
		now := ownerRecord{Server: headers.ServerVersion, PID: os.Getpid(), Address: address, UI: ui, Filled: d.hasHistory}
		if err := writeRecord(d.record, now); err != nil {
			return err
		}
		if err := d.createTables(); err != nil {
			return fmt.Errorf("creating %s: %w", d.file, err)
		}
		now.Filled = true
		if err := writeRecord(d.record, now); err != nil {
			return err
		}
	}
	keywords := make(map[string]enumspb.IndexedValueType)
	for _, name := range attributes {
		keywords[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	ns, err := sqlite.NewNamespaceConfig(clusterName, namespace, false, keywords)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	ns.Detail.Config.Retention = durationpb.New(retention)
	if err := sqlite.CreateNamespaces(d.sql, ns); err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	return nil
}

// createTables creates all tables or none: a file with some of them could not be used
// or repaired. BEGIN and COMMIT use the same connection because MaxConns is 1.
func (d *database) createTables() error {
	db, err := d.openAdmin()
	if err != nil {
		return err
	}
	defer db.Close()
	if tables, err := db.ListTables(d.sql.DatabaseName); err != nil || len(tables) > 0 {
		return err
	}
	if err := db.Exec("BEGIN"); err != nil {
		return err
	}
	if err := sqlite.SetupSchemaOnDB(db); err != nil {
		return errors.Join(err, db.Exec("ROLLBACK"))
	}
	return db.Exec("COMMIT")
}

// close writes the log back into the file and unlocks it. The connection stays open
// until the process ends: Temporal's pool closes none.
func (d *database) close() error {
	if d.file == "" {
		return nil
	}
	db, err := d.openAdmin()
	if err == nil {
		err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}
	if err != nil {
		err = fmt.Errorf("closing %s: %w", d.file, err)
	}
	return errors.Join(err, d.fileLock.Close())
}

func (d *database) openAdmin() (sqlplugin.AdminDB, error) {
	return sql.NewSQLAdminDB(sqlplugin.DbKindUnknown, d.sql, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
}

// readRecord returns the record in file, or a zero one if the file does not exist.
func readRecord(file string) (r ownerRecord, err error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		err = fmt.Errorf("read the version of Temporal that wrote the data: %s: %w", file, err)
	}
	return r, err
}

func writeRecord(file string, r ownerRecord) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file+".new", append(content, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("record the version of Temporal that writes the data: %w", err)
	}
	return nil
}
