#!/bin/sh
# The whole pipeline on this machine, with nothing but haldane[sandbox,notify]: sh run-locally.sh [FOLDER]
# A folder as the storage, two sandbox servers that load from it, the agent, and version 1 of the model in service. Then
# run.sh, as a CI would run it, for version 2. Ends with run.sh's exit code; everything that was started is ended, too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

: "${PORT:=18500}"  # the first of five: two for each server, one for the agent
MODEL=loans
export TF_CPP_MIN_LOG_LEVEL=3
agent=127.0.0.1:$((PORT + 4))

mkdir -p "${1:-pipeline-run}"
cd "${1:-pipeline-run}"
if [ -e models ]; then
    echo "$PWD holds an earlier run; give an empty folder" >&2
    exit 2
fi

started=
finish() {
    trap - EXIT INT TERM
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    for pid in $started; do wait "$pid" 2>/dev/null || true; done
}
trap finish EXIT
trap 'exit 130' INT TERM

echo "== version 1, which is in service already"
python "$here/train.py" first --seed 1
haldane release publish first/export --model "$MODEL" --to "$PWD/models"

cat > models.config <<END
model_config_list { config {
  name: "$MODEL" base_path: "$PWD/models/$MODEL" model_platform: "tensorflow"
  model_version_policy { specific { versions: 1 } }
} }
END
echo 'prometheus_config { enable: true }' > monitoring.config
cat > haldane.yaml <<END
mode: enforce
listen: $agent
state_dir: state
servers:
  - {name: a, address: "127.0.0.1:$PORT", metrics_url: "http://127.0.0.1:$((PORT + 1))/monitoring/prometheus/metrics"}
  - {name: b, address: "127.0.0.1:$((PORT + 2))", metrics_url: "http://127.0.0.1:$((PORT + 3))/monitoring/prometheus/metrics"}
model_config_file: models.config
models:
  $MODEL:
    clients: label
    traffic: {labelled: first/holdout.csv, label: bad}
    outputs: {kind: binary_probability}
    releases: {}
shadow: {rate: 150}
analysis:
  dependence: 0s                                             # two servers on one machine
  metrics:
    accuracy: "2pp"                                          # two trainings differ by chance
    latency: {role: guardrail, margin: "+100%"}              # a laptop is no place to measure latency
plan: {bake: 5s}
END

echo "== two servers and the agent: their logs are in $PWD"
for name in a b; do
    [ "$name" = a ] && port=$PORT || port=$((PORT + 2))
    haldane sandbox --port="$port" --rest_api_port="$((port + 1))" --model_config_file=models.config \
        --monitoring_config_file=monitoring.config --num_load_threads=1 --num_unload_threads=1 > "$name.log" 2>&1 &
    started="$started $!"
done
haldane run --config haldane.yaml > agent.log 2>&1 &
started="$started $!"

tries=0
until haldane status --agent "http://$agent" > /dev/null 2>&1; do
    tries=$((tries + 1))
    for pid in $started; do
        kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 60 ] && continue
        tail -n 5 a.log b.log agent.log >&2
        echo "not everything came up; are the ports $PORT to $((PORT + 4)) free? others: PORT=28500 sh $0" >&2
        exit 4
    done
    sleep 1
done

echo "== run.sh: train, validate, publish, announce, wait"
code=0
MODEL=$MODEL STORE=$PWD/models AGENT=http://$agent TOKEN_FILE=state/token OUT=build SEED=2 SECONDS_TO_WAIT=300 \
    sh "$here/run.sh" || code=$?

haldane release list "$MODEL" --from "$PWD/models" --agent "http://$agent"
echo "== run.sh ended with $code"
exit "$code"
