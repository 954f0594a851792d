#!/bin/bash
# Takes one snapshot of everything, waits for its end, and then removes those past the number to keep. Whatever goes wrong
# ends it with an error, which the Job shows.
set -euo pipefail

say() { echo "$(date -u +%FT%TZ) $*"; }

# A path, then curl's options. An error's answer says what is wrong. The password is in no argument.
ask() {
  local answer options=(--silent --show-error --fail-with-body --max-time 120 --header "Content-Type: application/json")
  [[ -z ${LOGIN:-} ]] || options+=(--cacert "$LOGIN/ca.crt" --config -)
  if answer=$(user | curl "${options[@]}" "${@:2}" "$ELASTICSEARCH_URL$1"); then
    echo "$answer"
  else
    say "failed: $1: $answer" >&2
    return 1
  fi
}

user() { [[ -z ${LOGIN:-} ]] || printf 'user = "%s:%s"\n' "$(<"$LOGIN/username")" "$(<"$LOGIN/password")"; }

# By itself it also proves that each node can write there.
ask "/_snapshot/$REPOSITORY" --request PUT --data "$REPOSITORY_SETTINGS" >/dev/null

name="snapshot-$(date -u +%Y%m%d-%H%M%S)"
say "takes $name"
ask "/_snapshot/$REPOSITORY/$name" --request PUT --data '{"include_global_state":true}' >/dev/null
while true; do
  sleep "$POLL_SECONDS"
  state=$(ask "/_cat/snapshots/$REPOSITORY?h=id,status" | awk -v name="$name" '$1 == name { print $2 }')
  [[ $state == IN_PROGRESS ]] || break
done
if [[ $state != SUCCESS ]]; then
  say "$name ended as ${state:-missing}: some shards are not in it. None was removed."
  ask "/_snapshot/$REPOSITORY/$name?filter_path=snapshots.failures,snapshots.reason"
  exit 1
fi
say "$name: $(ask "/_snapshot/$REPOSITORY/$name?filter_path=snapshots.shards,snapshots.duration_in_millis")"

# The oldest first; one that did not succeed goes with those of its time, and is no reason for a good one to go.
listing=$(ask "/_cat/snapshots/$REPOSITORY?h=id,status&s=start_epoch,id")
mapfile -t snapshots < <(awk '$1 ~ /^snapshot-/ { print $1, $2 }' <<<"$listing")
kept=0
for ((i = ${#snapshots[@]} - 1; i >= 0; i--)); do
  read -r id state <<<"${snapshots[i]}"
  if ((kept < KEEP)); then
    [[ $state != SUCCESS ]] || kept=$((kept + 1))
    continue
  fi
  ask "/_snapshot/$REPOSITORY/$id" --request DELETE >/dev/null
  say "removed $id, as $KEEP later ones succeeded"
done
say "kept $kept"
