#!/bin/bash
# Before each stop that is planned. Whatever fails here must not keep the node: the pod's grace period ends all of it.
set -uo pipefail
source "${BASH_SOURCE%/*}/request.sh"

# A pod that moves takes its disk along, which may take minutes. An index with a delay of its own keeps it.
ask "/_all/_settings?preserve_existing=true&expand_wildcards=all&master_timeout=2s" --output /dev/null \
  --request PUT --data "{\"$delay\":\"$restarting\"}"

# Clients drop the address before the node stops.
sleep "$DRAIN_SECONDS"

# While a copy is missing somewhere, this node's may be the only one. Without a master there is nobody to wait for.
for ((second = 0; second < 60; second += 2)); do
  status=$(ask "/_cluster/health?master_timeout=2s&filter_path=status") || exit 0
  [[ $status == *'"green"'* || $status == *"\"$WHOLE\""* ]] && exit 0
  sleep 2
done
exit 0
