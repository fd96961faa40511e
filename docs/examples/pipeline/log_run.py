"""Keep a training run in MLflow and register its model: `python log_run.py OUT NAME`.

Reads OUT/run.json, and writes the run's id to OUT/mlflow-run: not to stdout, where MLflow itself prints things.
Needs the package mlflow, which may have an environment of its own, and MLFLOW_TRACKING_URI.
"""

import json
import sys
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Param
from mlflow.exceptions import MlflowException


def main(file: Path, name: str) -> str:
    said, client = json.loads(file.read_text()), MlflowClient()
    run = client.create_run(experiment_id="0", run_name=name).info.run_id
    client.log_batch(run, params=[Param(key, str(value)) for key, value in said["params"].items()])
    for key, value in said["metrics"].items():
        client.log_metric(run, key, value)
    data = Dataset(said["data"]["name"], said["data"]["digest"], "code", "train.py")
    client.log_inputs(run, [DatasetInput(data)])
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(name, source=f"runs:/{run}/model", run_id=run)
    client.set_terminated(run, "FINISHED")
    return run


if __name__ == "__main__":
    out = Path(sys.argv[1])
    (out / "mlflow-run").write_text(main(out / "run.json", sys.argv[2]))
