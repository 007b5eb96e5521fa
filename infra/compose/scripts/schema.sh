#!/bin/sh
# Creates Temporal's two databases and migrates their schemas to the version of these
# tools. It is safe to run again: what exists stays unchanged.
#
# temporal-sql-tool reads SQL_PLUGIN, SQL_HOST, SQL_PORT, SQL_USER and SQL_PASSWORD.
set -eu

schemas=${SCHEMAS:-/etc/temporal/schema/postgresql/v12}

# migrate DATABASE SCHEMA
migrate() {
	temporal-sql-tool --database "$1" create-database
	temporal-sql-tool --database "$1" setup-schema --version 0.0
	temporal-sql-tool --database "$1" update-schema --schema-dir "$schemas/$2/versioned"
}

migrate temporal temporal
migrate temporal_visibility visibility
