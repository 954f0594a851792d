#!/bin/bash
# Readiness. After each start it waits once for the cluster to be whole, so that nothing stops the next node before;
# from then on it judges this node alone, since a cluster with a replica missing still serves.
set -uo pipefail

source "${BASH_SOURCE%/*}/request.sh"

readonly whole="${TMPDIR:-/tmp}/whole-since-start"

not_ready() {
  echo "$1"
  exit 1
}

# The node's own view of the cluster.
membership=$(ask '/_cluster/state/master_node?master_timeout=2s&filter_path=cluster_uuid,master_node')
[[ -n $membership || $? == 22 ]] || not_ready "Elasticsearch does not answer"
[[ $membership =~ \"master_node\":\"[^\"]+\" ]] ||
  not_ready "no master: this node has found no cluster, or too few of the cluster's nodes to elect one"

if [[ ! -e $DISK/.formed && $membership =~ \"cluster_uuid\":\"([^\"]+)\" ]]; then
  echo "${BASH_REMATCH[1]}" >"$DISK/.formed.new"
  sync "$DISK/.formed.new"
  mv "$DISK/.formed.new" "$DISK/.formed"
fi

# A container may start again within its pod: the process is told by its start time.
start=$(ask '/_nodes/_local/jvm?filter_path=nodes.*.jvm.start_time_in_millis') || not_ready "Elasticsearch does not answer"
[[ -e $whole && $(<"$whole") == "$start" ]] && exit 0

health=$(ask '/_cluster/health?master_timeout=2s&filter_path=status,*_shards') || not_ready "the master does not answer"
[[ $health == *'"status":"green"'* || $health == *"\"status\":\"$WHOLE\""* ]] ||
  not_ready "waits, after its start, until the cluster is $WHOLE: $health"
echo "$start" >"$whole"

# From here on a lost node is one that nobody has stopped: its copies are built anew as soon as usual.
settings=$(ask "/_all/_settings/$delay?flat_settings=true&expand_wildcards=all")
while [[ $settings =~ \"([^\"]+)\":\{\"settings\":\{\"$delay\":\"$restarting\"\} ]]; do
  settings=${settings/"${BASH_REMATCH[0]}"/}
  ask "/${BASH_REMATCH[1]}/_settings?master_timeout=2s" --output /dev/null --request PUT --data "{\"$delay\":null}"
done
exit 0
