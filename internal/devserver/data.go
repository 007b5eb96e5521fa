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

// retention is how long closed workflows stay readable: the history of
// releases is why one looks. Temporal's own default is a day.
const retention = 365 * 24 * time.Hour

// An OwnedError says that another process has the file. Two servers on one
// file would fight over each workflow.
type OwnedError struct {
	File    string
	PID     int    // 0 if unknown
	Address string // of its Temporal, or ""
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
	return fmt.Sprintf("%s is in use by %s: use that one, or stop it first", e.File, owner)
}

// A VersionError says that the file was written by another Temporal server.
// None of them migrates SQLite, so opening it could break it.
type VersionError struct {
	File     string
	Wrote    string // "" if nothing says
	Embedded string
}

func (e *VersionError) Error() string {
	wrote := "Temporal server " + e.Wrote
	if e.Wrote == "" {
		wrote = "an unknown version of Temporal server"
	}
	return fmt.Sprintf("%s was written by %s, this program has %s, and there is no migration between them: "+
		"finish its releases with the program that wrote it, then move %s away",
		e.File, wrote, e.Embedded, filepath.Dir(e.File))
}

// A LostError says that the file is empty or gone, and had a history before.
type LostError struct{ File string }

func (e *LostError) Error() string {
	return fmt.Sprintf("%s is empty or gone, and it had the history of releases: put it back from a copy, or begin anew with `release dev --reset`", e.File)
}

// data is Temporal's database and the right to use it.
type data struct {
	sql    *config.SQL
	file   string // "" in memory
	record string
	lock   *flock.Flock
	filled bool // the file had its tables before
}

// A record lies next to the file and says what wrote it and who has it.
type record struct {
	Server  string `json:"server"` // version of Temporal server, for the next to come
	PID     int    `json:"pid"`
	Address string `json:"address,omitempty"`
	UI      string `json:"ui,omitempty"`
	Filled  bool   `json:"filled,omitempty"` // the file has had its tables
}

func openData(dir string) (*data, error) {
	if dir == "" {
		return &data{sql: &config.SQL{
			PluginName:        sqliteplugin.PluginName,
			DatabaseName:      uuid.NewString(), // servers in one process must not share it
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
	d := &data{
		file:   filepath.Join(dir, "temporal.db"),
		record: filepath.Join(dir, "temporal.json"),
		lock:   flock.New(filepath.Join(dir, "temporal.lock")),
	}
	d.sql = &config.SQL{
		PluginName: sqliteplugin.PluginName,
		// It becomes part of a URL, in which ?, # and % mean something.
		DatabaseName: (&url.URL{Path: filepath.ToSlash(d.file)}).EscapedPath(),
		MaxConns:     1, // SQLite has one writer; more connections only collide
		MaxIdleConns: 1,
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "wal",
			// An approval that was acknowledged outlives a power cut.
			"synchronous": "full",
		},
	}
	if err := d.own(); err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

func (d *data) own() error {
	mine, err := d.lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking %s: %w", d.lock.Path(), err)
	}
	known, err := readRecord(d.record)
	if !mine {
		return &OwnedError{File: d.file, PID: known.PID, Address: known.Address, UI: known.UI}
	}
	if err != nil {
		return err
	}
	wrote, err := os.Stat(d.file)
	empty := err != nil || wrote.Size() == 0
	d.filled = known.Filled
	if known.Filled && empty && d.isLogEmpty() {
		return &LostError{File: d.file}
	}
	if known.Server != headers.ServerVersion && (known.Server != "" || !empty) {
		return &VersionError{File: d.file, Wrote: known.Server, Embedded: headers.ServerVersion}
	}
	return nil
}

// isLogEmpty reports whether SQLite's log has nothing either: a file that was
// never written back has all of it there.
func (d *data) isLogEmpty() bool {
	log, err := os.Stat(d.file + "-wal")
	return err != nil || log.Size() == 0
}

// prepare makes the file ready for a server: its record, its tables, its
// namespace. It may be killed anywhere in between and repeated.
func (d *data) prepare(address, ui, namespace string, attributes []string) error {
	if d.file != "" {
		now := record{Server: headers.ServerVersion, PID: os.Getpid(), Address: address, UI: ui, Filled: d.filled}
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

// createTables makes all tables or none: a file with some of them would never
// work and never be mended. The one connection makes BEGIN and COMMIT meet.
func (d *data) createTables() error {
	db, err := d.admin()
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

// close writes the log back into the file and unlocks it. The connection
// itself stays open until the process ends: Temporal's pool never closes one.
func (d *data) close() error {
	if d.file == "" {
		return nil
	}
	db, err := d.admin()
	if err == nil {
		err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}
	if err != nil {
		err = fmt.Errorf("closing %s: %w", d.file, err)
	}
	return errors.Join(err, d.lock.Close())
}

func (d *data) admin() (sqlplugin.AdminDB, error) {
	return sql.NewSQLAdminDB(sqlplugin.DbKindUnknown, d.sql, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
}

// readRecord returns the zero record if there is none.
func readRecord(file string) (r record, err error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		err = fmt.Errorf("reading which Temporal wrote the data: %s: %w", file, err)
	}
	return r, err
}

func writeRecord(file string, r record) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file+".new", append(content, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("recording which Temporal writes the data: %w", err)
	}
	return nil
}
