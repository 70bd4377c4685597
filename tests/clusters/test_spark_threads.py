"""A model on Spark has the threads that Spark gives a task, `spark.task.cpus`, not those of the machine."""

from pathlib import Path
from typing import Any

import pytest
from spark import need_spark, spark_cluster

from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import demo_path

need_spark()

import pyarrow as pa  # noqa: E402

from bebert_infer.spark.send import send_model  # noqa: E402


@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.parametrize("cpus", [1, 3])
def test_threads_are_the_cpus_of_a_task(tmp_path: Path, cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEBERT_THREADS", "2")  # a scheduler knows better than the machine's owner
    with spark_cluster(tmp_path, f"local[{cpus}]", spark_task_cpus=str(cpus)) as spark:
        sent = send_model(spark, "demo", Ensemble.from_pretrained(demo_path(), backend="reference"), True, True)

        def look(batches: Any) -> Any:
            from bebert_infer.spark.worker import load_model

            for _ in batches:
                yield pa.RecordBatch.from_pydict({"threads": [load_model(sent).threads]})

        (found,) = spark.range(0, 1, 1, 1).mapInArrow(look, "threads long").collect()
    assert found.threads == cpus
