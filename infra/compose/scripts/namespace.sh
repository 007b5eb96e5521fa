#!/bin/sh
# Creates the namespace and registers the search attributes of a release. Safe to
# run at any time: what is there already stays.
#
# TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE are read by the temporal command too.
# RETENTION is how long releases that have ended are remembered.
set -eu

: "${TEMPORAL_ADDRESS:?should be host:port of the Temporal server}"
: "${TEMPORAL_NAMESPACE:=default}"
: "${RETENTION:=8760h}"
: "${TRIES:=30}"
export TEMPORAL_ADDRESS TEMPORAL_NAMESPACE

# again COMMAND...: until it succeeds. A namespace is known to every part of the
# server only some seconds after it was created.
again() {
	tries=$TRIES
	until "$@"; do
		tries=$((tries - 1))
		if [ "$tries" -le 0 ]; then
			echo "given up: $*" >&2
			exit 1
		fi
		sleep 1
	done
}

attributes() {
	temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE"
}

if ! temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
	again temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION" \
		--description "Releases"
fi
again attributes >/dev/null

for name in ReleaseProject ReleaseRevision ReleaseEnvironment ReleasePhase ReleaseOutcome; do
	if attributes | grep -Eq "^ *$name +Keyword *\$"; then
		continue
	fi
	# An attribute of this name and another type would be left alone without a
	# word, and then no release could start.
	if attributes | grep -Eq "^ *$name +"; then
		echo "search attribute $name has another type than Keyword: use another namespace" >&2
		exit 1
	fi
	again temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$name" --type Keyword
done
