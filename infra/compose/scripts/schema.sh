#!/bin/sh
# Creates Temporal's two databases and brings their schema to the version of
# these tools. Safe to run at any time: what is there already stays.
#
# Where and as whom comes from SQL_PLUGIN, SQL_HOST, SQL_PORT, SQL_USER and
# SQL_PASSWORD.
set -eu

schemas=${SCHEMAS:-/etc/temporal/schema/postgresql/v12}

# bring DATABASE SCHEMA
bring() {
	temporal-sql-tool --database "$1" create-database
	temporal-sql-tool --database "$1" setup-schema --version 0.0
	temporal-sql-tool --database "$1" update-schema --schema-dir "$schemas/$2/versioned"
}

bring temporal temporal
bring temporal_visibility visibility
