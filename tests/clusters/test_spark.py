"""Spark on a real cluster answers what `bebert predict` answers, row by row and bit by bit, whatever is killed."""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import bebert
from spark import executors, need_spark, python_workers, spark_cluster

from bebert_infer import InputError, ModelFormatError
from bebert_infer.measure.sample_models import demo_path

need_spark()

import pyarrow as pa  # noqa: E402
import pyarrow.parquet  # noqa: E402

from bebert_infer.spark import classify, udf  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
ROOT = Path(__file__).parents[2]
ROWS, PARTS = 2000, 8


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with spark_cluster(tmp_path_factory.mktemp("spark")) as session:
        yield session


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file of real texts, the lines of our own pages, with numbers; and some rows that cannot be read."""
    lines = [line.strip() for page in sorted(ROOT.glob("docs/*.md")) for line in page.read_text("utf-8").splitlines()]
    texts: list[Any] = [line for line in lines if 20 < len(line) < 60]
    texts = [texts[index % len(texts)] for index in range(ROWS)]
    texts[7], texts[900], texts[1999] = None, "", "good " * 600
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pa.parquet.write_table(pa.table({"id": range(ROWS), "review": texts}), file)
    return file


@pytest.fixture(scope="module")
def expected(rows: Path) -> list[dict[str, Any]]:
    """What `bebert predict` answers, without what depends on the file: numbers of rows, places in errors."""
    out = rows.parent / "expected.parquet"
    options = ("--text-column", "review", "--on-error", "skip")
    done = bebert("predict", demo_path(), "--input", rows, "--output", out, *options, BEBERT_BACKEND="native")
    assert done.returncode == 0, done.stderr
    return comparable(pa.parquet.read_table(out).to_pylist())


def comparable(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers without columns of the input, and without names of column and place in their errors."""
    others = ("row", "id", "text", "review")
    plain = [{name: value for name, value in one.items() if name not in others} for one in answers]
    place = re.compile(r'"(review|text)" in (this row|row \d+ of \S+)')
    return [one | {"error": place.sub("the text", one["error"] or "")} for one in plain]


def read(spark: Any, rows: Path) -> Any:
    return spark.read.parquet(str(rows)).repartition(PARTS, "id")


def assert_as_predicted(folder: Path, expected: list[dict[str, Any]]) -> None:
    """Each row once, with the answers of `predict`, bit for bit."""
    answers = pa.parquet.read_table(folder).sort_by("id").to_pylist()
    assert [one["id"] for one in answers] == list(range(ROWS))
    assert comparable(answers) == expected


def small(spark: Any, **columns: str) -> Any:
    names = columns or {"text": "a gripping, funny film"}
    return spark.createDataFrame([tuple(names.values())], ", ".join(f"`{name}` string" for name in names))


def test_answers_are_those_of_predict(spark: Any, rows: Path, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    classify(read(spark, rows), demo_path(), text_column="review").write.parquet(str(tmp_path / "out"))
    assert_as_predicted(tmp_path / "out", expected)
    assert sum(bool(one["error"]) for one in expected) >= 3


class Killer(threading.Thread):
    """Kills a process in the middle of a job, once one of its tasks is done; another, if that one had no work."""

    def __init__(self, spark: Any, victims: Callable[[], list[int]]):
        super().__init__(daemon=True)
        self.tracker, self.victims = spark.sparkContext.statusTracker(), victims
        self.killed: list[int] = []
        self.work_was_lost = False

    def run(self) -> None:
        """Do so, within a minute."""
        end = time.monotonic() + 60
        while not self.work_was_lost and time.monotonic() < end:
            for stage in self.tracker.getActiveStageIds():
                info = self.tracker.getStageInfo(stage)
                if info and info.numTasks == PARTS and info.numCompletedTasks >= 1:
                    self.killed.append(self._busiest())
                    os.kill(self.killed[-1], 9)
                    self.work_was_lost = self._noticed(stage)
            time.sleep(0.02)

    def _busiest(self) -> int:
        """The process that computes most just now: idle workers are kept, too."""

        def spent(pid: int) -> int:
            return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

        before = {pid: spent(pid) for pid in self.victims()}
        end = time.monotonic() + 1
        while True:
            time.sleep(0.02)
            work = {pid: spent(pid) - start for pid, start in before.items()}
            busiest = max(work, key=lambda pid: work[pid])
            if work[busiest] > 2 or time.monotonic() > end:  # ticks, of a hundredth of a second
                return busiest

    def _noticed(self, stage: int) -> bool:
        """Whether Spark has lost a task by it, or what an earlier stage had done."""
        end = time.monotonic() + 2
        while time.monotonic() < end:
            info = self.tracker.getStageInfo(stage)
            if info and (info.numFailedTasks > 0 or info.currentAttemptId > 0):
                return True
            time.sleep(0.02)
        return False


@pytest.mark.parametrize("victims", [python_workers, executors])
def test_a_killed_process_loses_and_doubles_no_row(
    spark: Any, rows: Path, expected: list[dict[str, Any]], tmp_path: Path, victims: Callable[[], list[int]]
) -> None:
    killer = Killer(spark, victims)
    answers = classify(read(spark, rows), demo_path(), text_column="review")
    killer.start()
    answers.write.parquet(str(tmp_path / "out"))
    killer.join()
    assert killer.work_was_lost and not {*killer.killed} & {*victims()}
    assert_as_predicted(tmp_path / "out", expected)


def test_a_model_that_only_the_driver_sees_is_sent(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(demo_path(), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    # Of every process its own: workers are in other folders.
    path = "/proc/self/cwd/model"
    assert classify(small(spark), path).first().label == "positive"
    answers = classify(small(spark), path, check=False)
    shutil.rmtree(tmp_path / "model")
    assert answers.first().label == "positive"


def test_a_model_that_workers_cannot_load_is_said_once_and_no_task_fails(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo_path(), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    spark.sparkContext.setJobGroup("check", "")
    with pytest.raises(ModelFormatError, match='^a worker of Spark cannot load the model "/proc.*no model folder'):
        classify(small(spark), "/proc/self/cwd/model", send=False)
    tracker = spark.sparkContext.statusTracker()
    (job,) = tracker.getJobIdsForGroup("check")
    assert [tracker.getStageInfo(stage).numFailedTasks for stage in tracker.getJobInfo(job).stageIds] == [0]
    assert classify(small(spark), demo_path(), send=False).first().label == "positive"


def test_what_does_not_fit_is_refused_before_any_job(spark: Any, tmp_path: Path) -> None:
    spark.sparkContext.setJobGroup("refused", "")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    one = small(spark)
    model = demo_path()
    for error, message, call in (
        (ModelFormatError, 'no model folder "nowhere"', lambda: classify(one, "nowhere")),
        (ModelFormatError, "config.json", lambda: classify(one, tmp_path / "broken")),
        (InputError, '"review" is missing', lambda: classify(one, model, text_column="review")),
        (InputError, '"b" is missing', lambda: classify(one, model, text_column="text", pair_column="b")),
        (InputError, "holds bigint; texts are strings", lambda: classify(spark.range(1), model, text_column="id")),
        (InputError, 'a column "Label" already', lambda: classify(small(spark, text="a", Label="b"), model)),
        (InputError, "interval", lambda: classify(one.selectExpr("text", "interval 1 month AS i"), model)),
        (InputError, "early_exit is 2", lambda: classify(one, model, early_exit=2)),
        (InputError, "on_error is 'never'", lambda: classify(one, model, on_error="never")),
        (InputError, 'long is "cut"', lambda: classify(one, model, long="cut")),
        (ModelFormatError, 'no model folder "nowhere"', lambda: udf("nowhere")),
    ):
        with pytest.raises(error, match=message):
            call()
    assert not list(spark.sparkContext.statusTracker().getJobIdsForGroup("refused"))


def test_a_bad_row_fails_the_job_where_that_was_asked(spark: Any) -> None:
    one = spark.createDataFrame([(3, "")], "id long, text string")
    with pytest.raises(Exception, match=r'"text" in this row is missing.*; the row is {\'id\': 3.*on_error="skip"'):
        classify(one, demo_path(), on_error="stop").collect()


def test_names_of_columns_are_read_as_spark_reads_them(spark: Any) -> None:
    answer = classify(small(spark, Review="good", Film="bad"), demo_path(), text_column="review", pair_column="film")
    expected = classify(small(spark, text="good", text_pair="bad"), demo_path()).first()
    assert answer.first().score == expected.score
    assert classify(small(spark, text="good"), demo_path()).first().score != expected.score


def test_other_columns_come_back_as_they_were_and_partitions_may_be_empty(spark: Any) -> None:
    columns = (
        "CAST(id AS decimal(20, 3)) AS d, timestamp '2026-01-02 03:04:05' AS t, date '2026-01-02' AS day, "
        "array(id, null) AS a, map('k', id) AS m, named_struct('x', id, 'y', 'z') AS s, unhex('00ff') AS b, "
        "'a fine film' AS text"
    )
    before = spark.sql(f"SELECT {columns} FROM range(3)").repartition(7)
    after = classify(before, demo_path(), early_exit="exact")
    assert sorted(after.select(before.columns).collect()) == sorted(before.collect())
    assert after.first().members_run in (1, 2)


def test_columns_may_have_dots_in_their_names_or_the_same_name(spark: Any) -> None:
    frame = spark.createDataFrame([(1, "good", "bad", 2)], "a long, b string, c string, d long")
    answers = classify(frame.toDF("x", "review.text", "odd`name", "x"), demo_path(), text_column="review.text")
    assert answers.columns[:5] == ["x", "review.text", "odd`name", "x", "label"]
    assert answers.first()[:4] == (1, "good", "bad", 2)
    assert answers.first().score == classify(small(spark, text="good"), demo_path()).first().score
    with pytest.raises(InputError, match='2 columns "x"'):
        classify(frame.toDF("id", "x", "x", "y"), demo_path(), text_column="x")


def test_sql_answers_by_the_function(spark: Any, rows: Path, expected: list[dict[str, Any]]) -> None:
    spark.udf.register("classify", udf(demo_path()))
    spark.read.parquet(str(rows)).where("id < 200").createOrReplaceTempView("reviews")
    found = spark.sql("SELECT id, classify(review) AS answer FROM reviews ORDER BY id").collect()
    assert comparable([one.answer.asDict() for one in found]) == expected[:200]
    count = sum(one["label"] == "positive" for one in expected[:200])
    assert spark.sql("SELECT 1 FROM reviews WHERE classify(review).label = 'positive'").count() == count
    (pair,) = spark.sql("SELECT classify('good', 'bad').score").first()
    assert pair == classify(small(spark, text="good", text_pair="bad"), demo_path()).first().score
    broken = spark.sql("SELECT classify(CAST(unhex('FFFE') AS string)).error").first()
    assert broken[0] == 'this row has a "text" that is not UTF-8; write it again as UTF-8'


def test_a_stream_is_answered_like_a_table(
    spark: Any, rows: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    table = spark.read.parquet(str(rows)).coalesce(1)

    def run() -> None:
        stream = spark.readStream.schema(table.schema).parquet(str(tmp_path / "in"))
        answers = classify(stream, demo_path(), text_column="review").writeStream.format("parquet")
        answers = answers.option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True)
        assert answers.start(str(tmp_path / "out")).awaitTermination(60)

    table.where("id < 100").write.parquet(str(tmp_path / "in"))
    run()
    table.where("id BETWEEN 100 AND 199").write.mode("append").parquet(str(tmp_path / "in"))
    run()
    found = spark.read.parquet(str(tmp_path / "out")).orderBy("id").collect()
    assert [one.id for one in found] == list(range(200))
    assert comparable([one.asDict() for one in found]) == expected[:200]


def test_a_worker_loads_a_model_once_for_all_its_tasks(spark: Any) -> None:
    def look(batches: Any) -> Any:
        from bebert_infer.spark.worker import _load

        for _ in batches:
            loads = _load.cache_info().misses
            yield pa.RecordBatch.from_pydict({"loads": [loads], "pid": [os.getpid()]})

    answers = classify(spark.range(0, 40, 1, 40).selectExpr("'a film' AS text"), demo_path())
    found = answers.mapInArrow(look, "loads long, pid long").collect()
    assert len(found) == 40 and len({one.pid for one in found}) <= 4  # two at a time; one may be replaced
    assert max(one.loads for one in found) <= 3, "one that was sent, those that other tests have not; never one a task"
