"""Ray datasets on a real cluster of two workers: the answers of `predict` bit for bit, whatever is cut or killed."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.data", reason="Ray is not installed (extra ray)")

import pyarrow as pa
import ray
from ray.exceptions import RayTaskError
from ray_cluster import cluster, workers

from bebert_infer import Ensemble, InputError
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.errors import MissingModelError
from bebert_infer.measure.sample_models import demo_path
from bebert_infer.ray import classify
from bebert_infer.ray.capacity import pool_size, room, threads_of
from bebert_infer.ray.worker import TableWorker, load, ship

WORDS = "a gripping funny film that is dull and long but never quite as bad as naïve 电影 are 🎬 NA 12".split()


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    with cluster():
        yield


@pytest.fixture(scope="module")
def model() -> Ensemble:
    return Ensemble.from_pretrained(demo_path())


def texts(count: int) -> list[str]:
    return [" ".join(WORDS[(row * step) % len(WORDS)] for step in range(1, 2 + row % 17)) for row in range(count)]


def rows(count: int, blocks: int = 8, **more: list[Any]) -> Any:
    table = pa.table({"id": list(range(count)), "text": texts(count)} | more)
    return ray.data.from_arrow(table).repartition(blocks).materialize()


def in_order(dataset: Any) -> dict[str, list[Any]]:
    tables = list(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
    return pa.concat_tables(tables).sort_by("id").to_pydict()


def check(found: dict[str, list[Any]], model: Ensemble) -> None:
    """Every row once, with the bits of `predict`."""
    count = len(found["id"])
    assert found["id"] == list(range(count)), "a row is lost or doubled"
    assert found["text"] == texts(count)
    expected = model.predict(texts(count))
    assert found["label"] == [one.label for one in expected]
    assert found["score"] == [one.score for one in expected]
    assert found["votes"] == [one.votes for one in expected]
    for label in model.config.labels:
        assert found[f"probability_{label}"] == [one.probabilities[label] for one in expected]
    assert found["error"] == [None] * count


def test_answers_are_those_of_predict_bit_for_bit(model: Ensemble) -> None:
    check(in_order(classify(rows(3000), demo_path(), batch_size=200)), model)


def test_a_killed_worker_loses_and_doubles_nothing(model: Ensemble) -> None:
    answers = classify(rows(6000, blocks=40), demo_path(), concurrency=2, batch_size=50)
    tables, killed = [], []
    for table in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        tables.append(table)
        if not killed:
            killed = workers("TableWorker")[:1]
            os.kill(killed[0], signal.SIGKILL)
    assert killed and len(tables) > 10, "it was killed in the middle"
    check(pa.concat_tables(tables).sort_by("id").to_pydict(), model)


def test_a_model_that_only_the_driver_has_reaches_the_workers(model: Ensemble, tmp_path: Path) -> None:
    shutil.copytree(demo_path(), tmp_path / "mine")
    answers = classify(rows(50), tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine")  # before Ray has begun
    check(in_order(answers), model)


def test_bad_rows_are_errors_and_pairs_and_early_exit_are_as_in_predict(model: Ensemble) -> None:
    table = pa.table({"id": [0, 1, 2, 3], "first": ["good", None, "bad", "good " * 600], "second": ["film"] * 4})
    answers = classify(
        ray.data.from_arrow(table), demo_path(), text_column="first", pair_column="second", early_exit="exact"
    )
    found = in_order(answers)
    expected = model.predict([("good", "film"), ("bad", "film")], early_exit="exact")
    assert [found["score"][row] for row in (0, 2)] == [one.score for one in expected]
    assert [found["members_run"][row] for row in (0, 2)] == [one.members_run for one in expected]
    assert found["error"][1] == 'the "first" in this row is missing; write a text, or leave the row out'
    assert "tokens" in found["error"][3] and found["label"][3] is None
    cut = in_order(classify(ray.data.from_arrow(table), demo_path(), text_column="first", truncate=True))
    assert cut["cut"][3] > 0 and cut["error"][3] is None


def test_a_row_may_stop_the_job_with_its_reason() -> None:
    answers = classify(
        ray.data.from_items([{"id": 0, "text": ""}, {"id": 1, "text": "a"}]), demo_path(), on_error="stop"
    )
    with pytest.raises(RayTaskError, match='the "text" in this row is missing'):
        answers.materialize()


def test_a_block_without_the_column_or_with_numbers_in_it_has_errors_in_its_rows() -> None:
    """Ray reads files one by one: each may have another schema."""
    options = BulkOptions(text_column="text", on_error="skip")
    worker = TableWorker(ray.put(ship(demo_path(), options)), options, 1)
    assert worker(pa.table({"id": [0], "text": ["good"]})).to_pylist()[0]["error"] is None
    assert "is missing" in worker(pa.table({"id": [1]})).to_pylist()[0]["error"]
    assert "is 7; texts are strings" in worker(pa.table({"text": [7]})).to_pylist()[0]["error"]
    assert worker(pa.table({"text": pa.array([], pa.string())})).num_rows == 0


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"text_column": "review"}, 'columns id, text; "review" is missing'),
        ({}, {"pair_column": "b"}, '"b" is missing'),
        ({}, {"text_column": "id"}, 'the column "id" holds int64'),
        ({"label": [1] * 20}, {}, 'a column "label" already'),
        ({}, {"early_exit": "soon"}, "early_exit"),
        ({}, {"on_error": "ignore"}, 'on_error is "ignore"'),
        ({}, {"batch_size": 0}, "batch_size is 0"),
        ({}, {"num_cpus": 0}, "num_cpus is 0"),
        ({}, {"concurrency": 0}, "concurrency is 0"),
    ],
)
def test_what_cannot_work_is_refused_by_the_driver(
    columns: dict[str, list[Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        classify(rows(20, 1, **columns), demo_path(), **options)


def test_a_model_that_is_none_is_refused_by_the_driver(tmp_path: Path) -> None:
    with pytest.raises(MissingModelError):
        classify(rows(20, 1), tmp_path)


@pytest.mark.parametrize("asked", [{"concurrency": 3}, {"concurrency": (1, 3)}, {"num_cpus": 4}])
def test_workers_that_leave_no_cpu_to_read_with_are_refused_instead_of_waiting_for_ever(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="do not fit on this cluster: it has 3 CPUs, room for .* would wait for ever"):
        classify(ray.data.range(9).map(lambda row: {"text": "a"}), demo_path(), **asked)


def test_all_the_workers_that_fit_leave_room_to_read_and_to_write(tmp_path: Path, model: Ensemble) -> None:
    rows(400).write_parquet(str(tmp_path / "in"))
    classify(ray.data.read_parquet(str(tmp_path / "in")), demo_path()).write_parquet(str(tmp_path / "out"))
    check(in_order(ray.data.read_parquet(str(tmp_path / "out"))), model)


def test_a_worker_that_cannot_load_ends_the_job_at_once_and_says_why() -> None:
    other = replace(ship(demo_path(), BulkOptions()), release="0.0.0")
    answers = rows(200).map_batches(
        TableWorker,
        fn_constructor_args=(ray.put(other), BulkOptions(), 1),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
    )
    started = time.monotonic()
    with pytest.raises(RayTaskError, match=r"worker \d+ on .* has bebert-infer .*, the driver 0.0.0"):
        answers.materialize()
    assert time.monotonic() - started < 60


def test_a_worker_has_the_threads_of_its_cpus_and_no_more() -> None:
    shipped = ship(demo_path(), BulkOptions())
    assert load(shipped, threads_of(2.9)).threads == 2 and load(shipped, threads_of(0.5)).threads == 1
    seen = ray.get(ray.remote(num_cpus=2)(lambda: load(shipped, threads_of(2)).threads).remote())
    assert seen == 2


@pytest.mark.parametrize(
    ("machines", "cpus", "fits"),
    [([2], 1, 1), ([4], 1, 3), ([3, 3], 2, 2), ([4, 4], 4, 1), ([2, 2], 2, 1), ([1], 1, 0), ([8], 0.5, 14), ([], 1, 0)],
)
def test_room_is_counted_machine_by_machine(machines: list[float], cpus: float, fits: int) -> None:
    assert room(machines, cpus) == fits
    assert room(machines, cpus, spare=0) >= fits
    if fits:
        assert pool_size(None, machines, cpus) == (fits, fits)
    else:
        with pytest.raises(InputError, match="do not fit"):
            pool_size(None, machines, cpus)
