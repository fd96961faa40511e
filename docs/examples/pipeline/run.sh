#!/bin/sh
# From data to a verdict: train, note the run in MLflow, validate and publish, announce, wait.
# The exit code is the verdict's: 0 stable, 1 withdrawn, 3 undecided; 2, 4, 5 as `haldane --help` says.
set -eu
here=$(dirname "$0")

: "${MODEL:=loans}"                          # its name, in Serving and in Haldane
: "${STORE:?where versions are kept, e.g. s3://models}"
: "${AGENT:=http://127.0.0.1:8620}"          # only to ask how it ended, when BROKERS is given
: "${OUT:=build}"
: "${SEED:=1}"
: "${SECONDS_TO_WAIT:=7200}"
# Not needed: MLFLOW_TRACKING_URI (and MLFLOW_PYTHON, a python that has mlflow); BROKERS and TOPIC to announce through
# Kafka; TOKEN_FILE with the token for the agent otherwise.

python "$here/train.py" "$OUT" --seed "$SEED"

run=
if [ -n "${MLFLOW_TRACKING_URI:-}" ]; then
    "${MLFLOW_PYTHON:-python}" "$here/log_run.py" "$OUT" "$MODEL"
    run=$(cat "$OUT/mlflow-run")
fi

version=$(haldane release publish "$OUT/export" --model "$MODEL" --to "$STORE" --junit "$OUT/validate.xml" \
    ${run:+--mlflow-run "$run"})

if [ -n "${BROKERS:-}" ]; then
    haldane release announce "$MODEL" "$version" --kafka "$BROKERS" --topic "$TOPIC"
else
    haldane release announce "$MODEL" "$version" --agent "$AGENT" ${TOKEN_FILE:+--token-file "$TOKEN_FILE"}
fi

haldane rollout wait "$MODEL" "$version" --agent "$AGENT" --timeout "$SECONDS_TO_WAIT"
