#!/bin/sh
# Creates the namespace and registers the search attributes of releases. It is safe to
# run again: what exists stays unchanged.
#
# The temporal command also reads TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE. RETENTION is
# how long the history of closed releases is kept.
set -eu

: "${TEMPORAL_ADDRESS:?must be host:port of the Temporal server}"
: "${TEMPORAL_NAMESPACE:=default}"
: "${RETENTION:=8760h}"
: "${TRIES:=30}"
export TEMPORAL_ADDRESS TEMPORAL_NAMESPACE

# retry COMMAND...: runs the command until it succeeds, TRIES times at most. A new
# namespace is usable only after some seconds.
retry() {
	tries=$TRIES
	until "$@"; do
		tries=$((tries - 1))
		if [ "$tries" -le 0 ]; then
			echo "failed after $TRIES tries: $*" >&2
			exit 1
		fi
		sleep 1
	done
}

attributes() {
	temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE"
}

if ! temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
	retry temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION" \
		--description "Releases"
fi
retry attributes >/dev/null

for name in ReleaseProject ReleaseRevision ReleaseEnvironment ReleasePhase ReleaseOutcome; do
	if attributes | grep -Eq "^ *$name +Keyword *\$"; then
		continue
	fi
	# Temporal would ignore the type of an existing attribute, and then no release could
	# start.
	if attributes | grep -Eq "^ *$name +"; then
		echo "search attribute $name has another type than Keyword; use another namespace" >&2
		exit 1
	fi
	retry temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$name" --type Keyword
done
