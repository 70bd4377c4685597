"""`bebert predict --engine ray` on a real cluster: rows, answers and errors of `bebert predict`, whole or not there."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.data", reason="Ray is not installed (extra ray)")

import pyarrow as pa
import pyarrow.parquet as pq
from command import bebert
from ray_cluster import cluster, short_folder, wait_for, workers

from bebert_infer.bulk.classify import Counts
from bebert_infer.bulk.record import BulkOptions
from bebert_infer.errors import DataError, InputError
from bebert_infer.measure.sample_models import demo_path
from bebert_infer.ray.files import _whole, classify_files, open_input
from bebert_infer.ray.storage import Output

NATIVE = {"BEBERT_BACKEND": "native"}  # the truth of `bebert` takes its time for thousands of rows
CSV = 'id,text\n1,"a gripping, funny film"\n2,NA\n3,\n4,"torn\n5,12\n6,"a ""quoted"" word"\n'
JSONL = '{"text": "dull", "id": 7}\n{"id": 8}\nno json\n\n"a line"\n{"text": 5}\n'


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    with cluster(2):  # readers ask for no CPU, so both may answer
        yield


def folder(place: Path) -> Path:
    """Files of every kind, in two floors; what begins with _ or . is none of them."""
    place.mkdir()
    (place / "a.csv").write_text(CSV)
    (place / "b").mkdir()
    (place / "b" / "c.jsonl").write_text(JSONL)
    (place / "empty.csv").write_text("text\n")
    (place / "_SUCCESS").write_text("")
    (place / ".a.csv.crc").write_text("")
    texts = [f"it is {number} times as good as the book" for number in range(700)]
    pq.write_table(pa.table({"text": texts}), place / "d.parquet")
    return place


def predicted(file: Path, made: Path) -> dict[str, list[Any]]:
    done = bebert("predict", demo_path(), "--input", file, "--output", made, "--on-error", "skip", **NATIVE)
    assert done.returncode == 0, done.stderr
    return pq.read_table(made).to_pydict()


def on_ray(source: Any, made: Any, *more: object) -> subprocess.CompletedProcess[str]:
    return bebert("predict", demo_path(), "--input", source, "--output", made, "--engine", "ray", *more)


def test_a_folder_is_answered_as_its_files_are_by_predict(two_workers: None, tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    done = on_ray(source, tmp_path / "out", "--part-rows", 64)
    assert (
        done.returncode == 0 and "711 predictions" in done.stdout and "711 rows: 706 answers, 5 errors" in done.stderr
    )
    found = pq.read_table(tmp_path / "out")
    assert found.column_names[0] == "file"
    for name in ("a.csv", "b/c.jsonl", "d.parquet"):
        rows = found.filter(pa.compute.equal(found["file"], name)).drop_columns("file")  # in the order of the parts
        assert rows.to_pydict() == predicted(source / name, tmp_path / "one.parquet"), name
    assert sorted(set(found["file"].to_pylist())) == ["a.csv", "b/c.jsonl", "d.parquet"]
    parts = sorted((tmp_path / "out").glob("part-*"))
    assert len(parts) == 13 and max(pq.read_metadata(part).num_rows for part in parts) == 64
    assert json.loads((tmp_path / "out" / "_SUCCESS").read_text()) == {
        "rows": 711,
        "errors": 5,
        "files": 4,
        "parts": 13,
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_SUCCESS", *(part.name for part in parts)]


def test_a_killed_worker_loses_and_doubles_no_row_of_a_file(two_workers: None, tmp_path: Path) -> None:
    texts = [f"the {number}th film of a long and not always gripping series" for number in range(4000)]
    (tmp_path / "a.csv").write_text("text\n" + "\n".join(texts) + "\n")
    input = open_input(str(tmp_path / "a.csv"), BulkOptions(on_error="skip"), None, 10**6, part_rows=100)
    killed = []

    def kill(counts: Counts) -> None:
        if not killed:
            killed.extend(workers("ChunkWorker")[:1])
            os.kill(killed[0], signal.SIGKILL)

    counts = classify_files(demo_path(), input, str(tmp_path / "out"), report=kill)
    assert killed and counts.rows == 4000
    found = pq.read_table(tmp_path / "out")
    assert found["row"].to_pylist() == list(range(1, 4001)) and found["text"].to_pylist() == texts
    expected = predicted(tmp_path / "a.csv", tmp_path / "one.parquet")
    assert found.drop_columns("file").to_pydict() == expected


def test_pairs_uris_and_names_of_columns(two_workers: None, tmp_path: Path) -> None:
    rows = [{"a": "good", "b": "film", "text": "x"}, {"a": "bad", "b": "film", "text": "y"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("--text-column", "a", "--pair-column", "b", "--early-exit", "exact", "--threads", "2")
    for number, scheme in enumerate(("file", "local")):  # of Arrow, and of fsspec
        uri = f"{scheme}://{tmp_path}"
        done = on_ray(f"{uri}/a.jsonl", f"{uri}/out{number}", *words)
        assert done.returncode == 0, done.stderr
        found = pq.read_table(tmp_path / f"out{number}").to_pydict()
        done = bebert(
            "predict", demo_path(), "--input", tmp_path / "a.jsonl", "--output", tmp_path / "o.parquet", *words
        )
        assert found.pop("file") == ["a.jsonl"] * 2
        assert found == pq.read_table(tmp_path / "o.parquet").to_pydict()


def test_a_row_may_stop_the_job_and_then_nothing_is_there(two_workers: None, tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    done = on_ray(source, tmp_path / "out", "--on-error", "stop")
    # Of two files with such a row either worker may come first; behind the sentence Ray says how often it has tried.
    rows = ("a.csv is missing; write a text, or leave the row out; mend row 3", "text or text1; mend row 2")
    ends = [f"{row}, or pass --on-error skip to go on without it\n" for row in rows]
    assert done.returncode == 1 and any(end in done.stderr for end in ends), done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_file_ends_the_job_with_its_name(two_workers: None, tmp_path: Path) -> None:
    source = folder(tmp_path / "in")
    (source / "z.csv.gz").write_bytes(b"\x1f\x8b\x08 no gzip")
    done = on_ray(source, tmp_path / "out")
    assert done.returncode == 2 and "z.csv.gz" in done.stderr and "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_files_with_other_columns_than_the_first_are_refused(two_workers: None, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("text\ngood\n")
    (tmp_path / "in" / "b.csv").write_text("text,text_pair\ngood,film\n")
    done = on_ray(tmp_path / "in", tmp_path / "out")
    assert done.returncode == 2 and 'has its text in "text" and "text_pair", the files before in "text"' in done.stderr


def test_no_row_at_all_is_a_folder_with_columns(two_workers: None, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n")
    assert on_ray(tmp_path / "a.csv", tmp_path / "out").returncode == 0
    assert pq.read_table(tmp_path / "out").num_rows == 0 and "score" in pq.read_table(tmp_path / "out").column_names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "5"], "5 workers of 1 CPU do not fit on this cluster: it has 2 CPUs, room for 2"),
        (["--threads", "9"], "1 worker of 9 CPUs do not fit"),
        (["--text-column", "review"], "a.csv has the columns id, text; review is missing"),
        (["--early-exit", "soon"], "early_exit"),
    ],
)
def test_what_cannot_work_is_refused(two_workers: None, tmp_path: Path, words: list[str], message: str) -> None:
    done = on_ray(folder(tmp_path / "in"), tmp_path / "out", *words)
    assert done.returncode == 2 and message in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "nowhere", "--output", "out"], 'there is no input "nowhere"'),
        (["--input", "-", "--output", "out"], "--input is -, a pipe"),
        (["--input", "ftq://x/y", "--output", "out"], '"ftq://x/y" is on no file system that Ray reads'),
        (["--input", "in"], "--engine reads --input and writes --output; pass both"),
        (["--input", "in", "--output", "out", "--address", "127.0.0.1:9"], 'no Ray cluster answers at "127.0.0.1:9"'),
        (["--input", "in", "--output", "out", "a text"], "--engine has no use for the argument texts"),
    ],
)
def test_bad_use_is_one_sentence(tmp_path: Path, monkeypatch, words: list[str], message: str) -> None:
    import ray

    ray.shutdown()  # the last test that needs it has run
    folder(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    done = bebert("predict", demo_path(), "--engine", "ray", *words)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not list(tmp_path.glob("out/*"))


def test_an_unknown_file_in_the_folder_is_not_left_out_in_silence(tmp_path: Path) -> None:
    (folder(tmp_path / "in") / "more.xlsx").write_text("")
    with pytest.raises(InputError, match='holds "more.xlsx"; accepted are .parquet, .csv'):
        open_input(str(tmp_path / "in"), BulkOptions(), None, 10**6)


def test_an_unfinished_run_is_seen_by_no_reader_and_dropped_when_asked(tmp_path: Path) -> None:
    table = pa.table({"row": [1]})
    uri = str(tmp_path / "out")
    half = Output(uri)
    half.write("part-000000-000000000001.parquet", table)
    assert pq.read_table(uri).num_rows == 0, "half an output is taken for whole"
    with pytest.raises(InputError, match="holds what an unfinished run left; pass --restart"):
        Output(uri)
    again = Output(uri, restart=True)
    with pytest.raises(DataError, match="is not the same folder on elsewhere"):
        half.check("elsewhere")  # it has the mark of the second run now
    again.check("here")
    twice = [again.write("part-000000-000000000001.parquet", table) for _ in range(2)]  # a retry
    again.finish({"part-000000-000000000001.parquet": twice[1]}, {"rows": 1})
    assert pq.read_table(uri).num_rows == 1
    for restart in (False, True):
        with pytest.raises(InputError, match="holds files already; empty it"):
            Output(uri, restart)


def test_chunks_that_a_cluster_loses_are_missed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "good\n" * 5)
    input = open_input(str(tmp_path / "a.csv"), BulkOptions(), None, 10**6, part_rows=2)
    chunks = [chunk.to_pylist()[0] for chunk in input.chunks(0)]
    assert [(one["first"], len(one["rows"]), one["last"]) for one in chunks] == [
        (1, 2, False),
        (3, 2, False),
        (5, 1, True),
    ]
    lines = [
        {"file": 0, "first": one["first"], "rows": len(one["rows"]), "last": one["last"], "part": "p", "attempt": "a"}
        for one in chunks
    ]
    assert _whole(lines, input) == {"p": "a"} and _whole([*lines, lines[1]], input) == {"p": "a"}
    for missing, row in ((0, 1), (1, 3), (2, 5)):
        with pytest.raises(DataError, match=f"lost the answers from row {row} on"):
            _whole(lines[:missing] + lines[missing + 1 :], replace(input))


def test_a_cluster_of_its_own_and_a_killed_driver(tmp_path: Path) -> None:
    """The command starts a cluster and ends it; killed in the middle, it leaves nothing that looks whole."""
    (tmp_path / "a.csv").write_text("text\n" + "a gripping, funny film\n" * 3000)
    words = [sys.executable, "-m", "bebert_infer", "predict", str(demo_path()), "--input", str(tmp_path / "a.csv")]
    words += ["--output", str(tmp_path / "out"), "--engine", "ray", "--part-rows", "100"]
    with short_folder() as short:
        environment = os.environ | {"RAY_TMPDIR": short}
        first = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment)
        try:
            wait_for(tmp_path / "out", "_temporary/part-*", 2)
        finally:
            first.kill()
            first.wait()
        assert pq.read_table(tmp_path / "out").num_rows == 0 and not (tmp_path / "out" / "_SUCCESS").exists()
        done = subprocess.run([*words, "--restart"], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "out")["row"].to_pylist() == list(range(1, 3001))
