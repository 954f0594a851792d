#!/bin/bash
# Before each start: writes the configuration, and lets this node form the cluster only where no cluster can exist yet.
# Why it is done so: docs/decisions/elasticsearch-bootstrap.md
set -euo pipefail

readonly claim=elasticsearch-bootstrap
readonly configmaps="$KUBERNETES_API/api/v1/namespaces/$NAMESPACE/configmaps"
readonly settings="$CONFIG/elasticsearch.yml"

say() { echo "$(date -u +%FT%TZ) $*"; }

main() {
  # Of an earlier start in this pod: a copy would go through them, to what only Elasticsearch has mounted.
  rm -f "$CONFIG"/{users,users_roles,roles.yml}
  cp -r "$DEFAULTS/." "$CONFIG/"
  cp "$SCRIPTS/elasticsearch.yml" "$settings"
  [[ -z ${SECURITY:-} ]] || link_users
  mkdir -p "$DISK/node"
  [[ -e $DISK/.disk-id ]] || name_disk
  if may_form; then
    echo "cluster.initial_master_nodes: [\"$POD_NAME\"]" >>"$settings"
  fi
  [[ -z ${SNAPSHOT_KEYS:-} ]] || keep_snapshot_keys
}

# The key pair of the snapshots' store, which a node takes from its keystore alone.
keep_snapshot_keys() {
  printf '%s\n' "$(<"$SNAPSHOT_KEYS/access-key")" "$(<"$SNAPSHOT_KEYS/secret-key")" |
    ES_PATH_CONF=$CONFIG elasticsearch-keystore add --force --stdin s3.client.default.access_key s3.client.default.secret_key
}

# Elasticsearch wants these beside its settings, and reads them again when they change: so they are links to the Secret's.
link_users() {
  mkdir -p "$CONFIG/$SECURITY"
  local file
  for file in users users_roles roles.yml; do
    ln -sfn "$SECURITY/$file" "$CONFIG/$file"
  done
}

# A disk's random name tells it from any later one of the same claim.
name_disk() {
  cat /proc/sys/kernel/random/uuid >"$DISK/.disk-id.new"
  sync "$DISK/.disk-id.new"
  mv "$DISK/.disk-id.new" "$DISK/.disk-id"
}

may_form() {
  if [[ $POD_NAME != *-0 ]]; then
    say "joins: only the first node may form the cluster"
    return 1
  fi
  if [[ -e $DISK/.formed ]]; then
    say "joins: this disk belongs to cluster $(<"$DISK/.formed")"
    return 1
  fi
  claim_cluster "$(<"$DISK/.disk-id")"
}

# The namespace's ConfigMap names, for good, the one disk that forms the cluster: who creates it first.
claim_cluster() {
  local disk=$1 status body owner
  body="{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"$claim\",\"labels\":{\"app.kubernetes.io/name\":\"elasticsearch\"}},\"immutable\":true,\"data\":{\"disk\":\"$disk\"}}"
  while true; do
    status=$(kubernetes --output /dev/null --write-out '%{http_code}' --data "$body" "$configmaps") || true
    case $status in
      201)
        say "forms the cluster: disk $disk is the first"
        return 0
        ;;
      409)
        owner=$(kubernetes --fail "$configmaps/$claim" | sed -n 's/.*"disk": *"\([^"]*\)".*/\1/p') || true
        [[ -z $owner ]] || break
        ;;
    esac
    say "waits: cannot create ConfigMap $NAMESPACE/$claim (HTTP status $status)"
    sleep 2
  done
  if [[ $owner == "$disk" ]]; then
    say "forms the cluster, as this disk was chosen for it"
    return 0
  fi
  say "joins: disk $owner was chosen to form the cluster, and this disk, $disk, is another one."
  say "If no node of that cluster has its disk any more, this node waits for ever. Only then, to begin again with an" \
    "empty cluster: kubectl --namespace $NAMESPACE delete configmap $claim && kubectl --namespace $NAMESPACE delete pod $POD_NAME"
  return 1
}

# The token is read each time, since it is renewed, and is in no argument, where other processes could see it.
kubernetes() {
  curl --silent --max-time 10 --cacert "$IDENTITY/ca.crt" --header "Content-Type: application/json" \
    --header @<(echo "Authorization: Bearer $(<"$IDENTITY/token")") "$@"
}

main
