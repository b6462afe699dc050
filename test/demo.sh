#!/usr/bin/env bash
# The demo: boots a real two-node cluster in namespaces of this machine, creates the worked example, traces it through
# kubectl's plugin mechanism, and leaves you in a shell with kubectl ready. DEMO_EXIT=1 ends after the trace.
# Called by `make demo`, with the built programs in the folder that is given as the first argument.
set -euo pipefail
out=$(cd "$1" && pwd)
proxy=${DEMO_PROXY:-nftables}
lab() { "$out/lab" --name demo "$@"; }

lab build
lab down >/dev/null 2>&1 || true
trap 'lab down >/dev/null' EXIT
lab up --nodes 2 --proxy "$proxy" --family "${DEMO_FAMILY:-ipv4}"
lab load --binary "$out/svctrace-agent"
lab demo
echo
echo "\$ kubectl svctrace web"
status=0
lab exec cp -- env "PATH=$out:$PATH" kubectl svctrace web || status=$?
if [ -n "${DEMO_EXIT:-}" ]; then
	exit "$status"
fi
echo
echo "KUBECONFIG is set. Try: kubectl svctrace web -o wide; kubectl scale deployment web --replicas 0. Leave with exit."
PATH="$out:$PATH" lab shell cp || true
