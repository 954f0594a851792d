# How the other scripts ask this node: a path, then curl's options.

# The password is in a file that curl reads, and in no argument, where other processes could see it.
if [[ -n ${SECURITY:-} ]]; then
  readonly address=https://elasticsearch:9200 tls=(--cacert "$SECURITY/ca.crt" --config "$SECURITY/probe.curl")
else
  readonly address=http://elasticsearch:9200 tls=()
fi
ask() {
  curl --silent --fail --max-time 3 --resolve "elasticsearch:9200:$POD_IP" "${tls[@]}" \
    --header "Content-Type: application/json" "${@:2}" "$address$1"
}

# How long Elasticsearch keeps a lost node's copies for it before it builds others, as long as that node is restarting.
readonly delay=index.unassigned.node_left.delayed_timeout restarting=5m
