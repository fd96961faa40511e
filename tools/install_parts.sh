#!/bin/sh
# Install the real programs that tests run against (Prometheus, Alertmanager, a process exporter, Chromium, PostgreSQL, HAProxy, nginx, h2load, nftables, faketime, and small tools) where apt can.
# Without apt or without being root it says what is missing: those tests then skip, or fail when CI=true.
set -u

have() {
    case $1 in
    chromium) command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 ;;
    prometheus) command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 ;;
    prometheus-alertmanager) command -v prometheus-alertmanager >/dev/null 2>&1 || command -v alertmanager >/dev/null 2>&1 ;;
    prometheus-process-exporter) command -v prometheus-process-exporter >/dev/null 2>&1 || command -v process-exporter >/dev/null 2>&1 ;;
    nftables) command -v nft >/dev/null 2>&1 ;;
    # The server itself is not on PATH.
    postgresql) ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 ;;
    nginx-light) command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] ;;
    nghttp2-client) command -v h2load >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing() {
    for part in prometheus prometheus-alertmanager prometheus-process-exporter chromium postgresql haproxy nginx-light nghttp2-client nftables faketime curl openssl git; do
        have "$part" || printf '%s ' "$part"
    done
}

# MLflow's server is 600 MB of packages with pins of their own, so it gets an environment of its own.
if [ -x .venv/bin/uv ] && ! command -v mlflow >/dev/null 2>&1 && [ ! -x .mlflow/bin/mlflow ]; then
    .venv/bin/uv venv -q .mlflow && .venv/bin/uv pip install -q -p .mlflow/bin/python mlflow==3.17.2 ||
        echo "!!  MLflow could not be installed; its tests will be SKIPPED" >&2
fi

wanted=$(missing)
[ -z "$wanted" ] && exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
    echo "    installing with apt: $wanted(about a minute)"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # shellcheck disable=SC2086  # one word per package
    { apt-get update -q && apt-get install -y -q --no-install-recommends $wanted; } </dev/null >"$log" 2>&1 || tail -n 5 "$log" >&2
    rm -f "$log"
fi

wanted=$(missing)
[ -z "$wanted" ] && exit 0
{
    echo "!!  not installed: $wanted"
    echo "!!  tests that need them will be SKIPPED. On Debian: sudo apt-get install --no-install-recommends $wanted"
} >&2
[ "${CI:-}" != "true" ]
