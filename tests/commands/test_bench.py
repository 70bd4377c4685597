"""`bebert bench` gives every engine its turn, and its record has every figure of the schema, also without any peer."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_command import run
from click.testing import CliRunner
from rich.console import Console

from bebert_infer.bench.settings import BATCHES, LENGTHS, make_settings
from bebert_infer.bench.tables import print_run, ratio_table
from bebert_infer.bench.turns import Geometry, Times, measure, parent_geometry, spread, take_turns
from bebert_infer.cli import bench as cli_bench
from bebert_infer.cli.main import app
from bebert_infer.errors import DataError, InputError
from bebert_infer.measure.power import Reading
from bebert_infer.measure.sample_models import random_model
from bebert_infer.threads import granted_cores


def test_every_engine_has_its_turn_in_every_round_and_turns_rotate():
    seen = []
    calls = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = measure(calls, 2, calls_a_turn=2, pause=0)
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4, "c": 4}
    # once each to warm up; then in each turn one call that is not timed and two that are
    assert "".join(seen) == "abc" + "aaabbbccc" + "bbbcccaaa"


@pytest.fixture
def clock():
    """A clock that calls move, and the joules that they cost."""

    class Clock:
        now, microjoules = 0.0, 0

        def __call__(self):
            return self.now

        def work(self, seconds):
            def call():
                self.now += seconds
                self.microjoules += round(seconds * 7e6)  # 7 W

            return call

        def energy(self):
            return Reading({"package": self.microjoules}, {}, [], None)

    return Clock()


def test_long_calls_are_timed_once_a_turn_and_time_ends_rounds(clock):
    calls = {"short": clock.work(0.1), "long": clock.work(2.0)}
    times = take_turns(calls, 9, pause=0, seconds=5, clock=clock, energy=clock.energy)
    assert len(times["short"].ms) == 3 * 3 and times["short"].ms[0] == pytest.approx(100)  # 2.4 s a round
    assert len(times["long"].ms) == 3 and times["long"].ms[0] == pytest.approx(2000)
    assert times["long"].joules_a_call == pytest.approx(14)
    assert len(take_turns(calls, 9, pause=0, seconds=0, clock=clock)["long"].ms) == 1, "the first round is finished"


def test_without_a_counter_there_are_no_joules():
    assert Times([1.0]).joules_a_call is None


def test_median_and_percentiles():
    found = spread([float(number) for number in range(101)][::-1])
    assert found == {"median_ms": 50, "p10_ms": 10, "p90_ms": 90, "calls": 101}


@pytest.mark.parametrize("size", ["base", "base-half"])
def test_the_parent_of_full_and_half_width_is_bert_base(size):
    assert parent_geometry(random_model(size, "1-1-4", 1, vocab_size=9).config) == Geometry(vocabulary=9)


def test_thread_budgets():
    cores, _ = granted_cores()
    settings, notes = make_settings(threads=f"1,{cores + 1},{cores}")
    assert settings.threads == tuple(dict.fromkeys((1, cores)))
    assert len(notes) == 1 and f"--threads {cores + 1} is left out" in notes[0] and str(cores) in notes[0]
    with pytest.raises(InputError, match=f"--threads is {cores + 1}; this process may use {cores} core"):
        make_settings(threads=str(cores + 1))
    for wrong in ("two", "1,,2", "0", "", "-1", "1.5"):
        with pytest.raises(InputError, match="accepted are whole numbers of at least 1 with commas"):
            make_settings(threads=wrong)


def test_a_quick_run_measures_less_in_a_bounded_time():
    quick, full = make_settings(quick=True)[0], make_settings()[0]
    assert (full.lengths, full.batches) == (LENGTHS, BATCHES)
    assert set(quick.lengths) < set(LENGTHS) and set(quick.batches) < set(BATCHES)
    assert quick.rounds < full.rounds and quick.processes < full.processes
    assert quick.prepare_seconds < quick.total_seconds < 180 and full.total_seconds == float("inf")
    assert quick.batch_tokens == full.batch_tokens == 128
    assert make_settings(quick=True, lengths="32,7", rounds=2)[0].lengths == (7, 32)
    assert make_settings(lengths="200,64")[0].batch_tokens == 64 and make_settings(lengths="200")[0].batch_tokens == 200


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The record of a small random model without peers, and where it was kept."""
    folder = tmp_path_factory.mktemp("bench")
    done = run(
        *("--size", "tiny", "--members", 2, "--tokens", "4,9,600", "--rounds", 2, "--quick", "--no-peers", "--json"),
        *("--record", folder / "history.jsonl", "--threads", 1),
        code=f"import tempfile; tempfile.tempdir = {str(folder)!r}\n",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def test_the_record_has_every_field_of_the_schema(record):
    run, _ = record
    assert {"format": "bebert-bench", "version": 2}.items() <= run.items()
    assert set(run) >= {
        *("date", "commit", "version_of_bebert", "machine", "settings", "cores_of_others", "groups", "engines"),
        *("latency", "throughput", "time_by_operation", "missing", "energy", "import_numpy_s"),
    }
    keys = {"cpu", "cores", "memory_bytes", "isa", "products", "python", "versions"}
    assert set(run["machine"]) == keys and run["machine"]["cpu"] and run["machine"]["versions"]["numpy"]
    settings = {"lengths": [4, 9, 600], "batches": [8], "batch_tokens": 9, "threads": [1], "rounds": 2, "quick": True}
    assert run["settings"] == settings | {"data": None}
    (group,) = run["groups"]
    assert group["name"] == "tiny" and group["left_out"] == [600]
    assert group["start_of"] == "9 ready token ids (it has no tokenizer)"
    assert set(group["geometry"]) == {
        *("layers", "hidden", "heads", "intermediate", "vocabulary", "positions", "labels")
    }
    assert run["missing"] == {}


def test_the_record_says_what_the_engine_is(record):
    (engine,) = record[0]["engines"]
    assert engine["name"] == "bebert 1-1-4, 2 members" and engine["kind"] == "packed"
    assert (engine["members"], engine["scheme"], engine["random_weights"]) == (2, "1-1-4", True)
    assert sum(engine["bytes_by_kind"].values()) == engine["bytes"]
    # numerics §6: two branches, 2 layers of 4 · 128 · 128 + 2 · 128 · 512 weights; two members, 9 tokens
    assert engine["operations"]["1×4"] == 2 * 2 * 2 * (4 * 128 * 128 + 2 * 128 * 512) * 9
    assert engine["operations"]["4×4"] == 2 * 2 * (2 * 128 * 9 * 9) and engine["operations_tokens"] == 9
    assert engine["accuracy"] is None and engine["flops_paper"] > 0
    assert 0 < engine["load_s"] < engine["first_answer_s"] and engine["peak_rss_bytes"] > 2**24
    assert engine["install_bytes"] > 2**24 and any(one.startswith("numpy ") for one in engine["install_packages"])
    assert record[0]["import_numpy_s"] > 0  # and less than the answer, but for the noise of a single start


def test_figures_of_turns_are_in_order(record):
    run, _ = record
    assert [(row["tokens"], row["batch"], row["threads"]) for row in run["latency"]] == [(4, 1, 1), (9, 1, 1)]
    (batch,) = run["throughput"]
    assert (batch["batch"], batch["tokens"]) == (8, 9)
    assert batch["sentences_per_s"] == pytest.approx(8000 / batch["median_ms"], rel=1e-3)
    for row in (*run["latency"], batch):
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"] and row["calls"] >= 2


def test_a_history_has_one_line_a_run_and_nothing_else_is_left(record):
    run, folder = record
    (line,) = (folder / "history.jsonl").read_text().splitlines()
    assert json.loads(line) == run
    assert [entry.name for entry in folder.iterdir()] == ["history.jsonl"]


def test_a_quick_run_without_time_measures_the_main_length_and_names_what_is_left_out():
    code = "from bebert_infer.bench.settings import Settings; Settings.spent = lambda self: 1e6\n"
    done = run("--size", "tiny", "--members", 1, "--tokens", "4,9", "--quick", "--no-peers", "--json", code=code)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert [row["tokens"] for row in record["latency"]] == [9] and record["throughput"] == []
    (note,) = record["notes"]
    for part in ("no time left", "1 × 4 tokens", "8 × 9 tokens", "start of bebert 1-1-4, 1 member"):
        assert part in note
    assert record["engines"][0]["load_s"] is None and record["engines"][0]["install_bytes"] is None
    assert record["import_numpy_s"] is None


def stub(monkeypatch, name, **functions):
    """A module of another part of the command, which only has to be called."""
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**functions))


def test_output_is_a_folder_with_the_run_and_its_report(record, tmp_path, monkeypatch, capsys):
    run, folder = record[0], tmp_path / "new" / "report"
    drawn = []
    stub(monkeypatch, "bebert_infer.bench.report.page", write_report=lambda *arguments: drawn.append(arguments))
    monkeypatch.setattr(cli_bench, "find_spec", lambda name: None)
    cli_bench._keep(run, folder, None, Console(stderr=True))
    assert json.loads((folder / "bench.json").read_text()) == run and drawn == [(run, folder)]
    assert "pip install matplotlib" in capsys.readouterr().err
    monkeypatch.setattr(cli_bench, "find_spec", lambda name: name)
    cli_bench._keep(run, folder, None, Console(stderr=True))
    assert "pip install" not in capsys.readouterr().err
    assert [entry.name for entry in folder.iterdir()] == ["bench.json"]


def test_a_history_that_cannot_be_written_does_not_take_the_report_with_it(record, tmp_path, monkeypatch):
    stub(monkeypatch, "bebert_infer.bench.report.page", write_report=lambda *arguments: None)
    with pytest.raises(DataError, match=r"cannot write .*\.jsonl: Is a directory; make room or choose another place"):
        (tmp_path / "a.jsonl").mkdir()
        cli_bench._keep(record[0], tmp_path / "report", tmp_path / "a.jsonl", Console(stderr=True))
    assert json.loads((tmp_path / "report" / "bench.json").read_text()) == record[0]


def test_compare_takes_two_files_and_measures_nothing(monkeypatch):
    seen = []
    stub(monkeypatch, "bebert_infer.bench.compare", compare_runs=lambda a, b, console: seen.append((a, b)))
    done = CliRunner().invoke(app, ["bench", "--compare", "a.json", "b.jsonl"], catch_exceptions=False)
    assert done.exit_code == 0 and seen == [(Path("a.json"), Path("b.jsonl"))] and not done.output


def test_tables_name_engines_percentiles_and_ratios_and_fit_the_page(record, capsys):
    run, _ = record
    latency, engine = run["latency"], run["engines"][0]
    lengths = (16, 32, 64, 128, 256, 512)
    rows = [latency[0] | {"tokens": length, "median_ms": 1234.5} for length in lengths]
    peers = [
        engine | {"name": name, "kind": kind, "operations": {"8×8": 1.1e10, "fp32": 2.2e10}, "accuracy": accuracy}
        for name, kind, accuracy in (
            ("PyTorch fp32", "fp32", None),
            ("ONNX Runtime fp32", "fp32", None),
            ("ONNX Runtime int8 dynamic", "int8", {"metric": "accuracy", "value": 0.86, "rows": 872}),
        )
    ]
    rows += [
        row | {"engine": peer["name"], "median_ms": median}
        for peer, median in zip(peers, (4938, 2469, 617.25), strict=True)
        for row in rows[:6]
    ]
    settings = run["settings"] | {"batch_tokens": 128}
    wide = run | {
        "settings": settings,
        "engines": [*peers, engine],
        "latency": rows,
        "missing": {"OpenVINO fp32": "not installed: pip …", "B": "slow", "C": "slow"},
    }
    print_run(wide, Console(width=120))
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 120 and "…" not in shown.replace("pip …", "")
    for word in (
        "4.00×",
        "2.00×",
        "0.50×",
        "86.00 %",
        "872",
        "10th–90th",
        "batch 8",
        "OpenVINO fp32: not",
        "B, C: slow",
    ):
        assert word in shown, word


def test_ratios_are_taken_against_the_fastest_of_a_kind():
    kinds = {"PyTorch fp32": "fp32", "fast": "fp32", "int": "int8", "bits": "packed"}
    medians = {"PyTorch fp32": 9.0, "fast": 4.0, "int": 2.0, "bits": 1.0}
    rows = [{"engine": name, "tokens": 128, "median_ms": median} for name, median in medians.items()]
    rows += [row | {"tokens": 256, "median_ms": 1000.0} for row in rows]
    table = ratio_table([{"name": name, "kind": kind} for name, kind in kinds.items()], rows, [], 128)
    columns = {str(column.header): list(column.cells)[-1] for column in table.columns}
    assert columns == {
        "engine": "bits",
        "than PyTorch fp32": "9.00×",
        "than fastest fp32": "4.00×",
        "than fastest int8": "2.00×",
    }


def test_without_torch_it_measures_ours_and_names_what_is_missing(tmp_path):
    code = "import sys; sys.modules['torch'] = None\n"
    options = ("--size", "tiny", "--members", 1, "--tokens", 4, "--rounds", 1, "--quick")
    done = run(*options, code=code, BEBERT_CACHE_DIR=str(tmp_path))  # where no peer's file is left of a run with torch
    assert done.returncode == 0, done.stderr
    assert "bebert 1-1-4, 1 member" in done.stdout
    for peer in ("PyTorch fp32", "ONNX Runtime int8 dynamic", "OpenVINO int8 NNCF"):
        assert peer in done.stdout
    assert "not installed: pip install torch" in done.stdout
    assert not done.stderr, "no peer, so no word about its files"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--size", "huge"), "base-half"),
        (("--size", "tiny", "--scheme", "2-2-2"), "1-1-4"),
        (("--size", "tiny", "--tokens", 513), "at most 512"),
        (("--tokens", "0"), "whole numbers of at least 1"),
        (("model", "--size", "tiny"), "pass one of them"),
        (("--size", "tiny", "--data", "x.tsv"), "random weights"),
        (("--data", "nowhere.tsv"), 'there is no file "nowhere.tsv"'),
        (("--record", "x.json"), "ending in .jsonl"),
        (("--output", __file__), "which is a file"),
        (("--output", "/proc/x"), '--output is "/proc/x", where nothing can be written: '),
        (("--record", "/proc/x.jsonl"), '--record is "/proc/x.jsonl", where nothing can be written: '),
        (("--full-precision", "nowhere"), 'there is no folder "nowhere"; --full-precision takes'),
        (("--members", 3), "a run without --size has no use for --members; leave it out"),
        (("model", "--scheme", "1-1-1"), "a run without --size has no use for --scheme"),
        (("--profile", "--output", "x", "--record", "y"), "--profile has no use for --output, --record; leave them"),
        (("--profile", "--sustained", 2), "--profile has no use for --sustained"),
        (("--sustained", 2, "--data", "x"), "--sustained has no use for --data"),
        (("model", "--compare", "a", "b", "--json"), "--compare has no use for the argument model, --peers, --json"),
        (("nowhere",), 'no model folder "nowhere"'),
        (("--size", "tiny", "--profile", "--threads", 4096), "--threads is 4096"),
    ],
)
def test_a_wrong_option_is_one_sentence(arguments, part, monkeypatch):
    monkeypatch.setenv("BEBERT_BACKEND", "reference")
    with pytest.raises((InputError, ValueError), match=part):
        CliRunner().invoke(app, ["bench", *map(str, arguments), "--no-peers"], catch_exceptions=False)


def test_the_profile_names_operations_and_rates():
    from bebert_infer.ensemble import Ensemble
    from bebert_infer.measure.profiling import profile

    try:
        rows = profile(Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=9), threads=1), 4, rounds=2)
    except InputError:
        pytest.skip("no native program on this machine")
    assert {"attention", "norm", "output"} <= {row.operation for row in rows}
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_the_profile_is_three_tables_or_one_object():
    arguments = ["bench", "--size", "tiny", "--members", "1", "--tokens", "4", "--threads", "1", "--profile"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    if "the reference has no profile" in done.output:
        pytest.skip("no native program on this machine")
    for part in ("one pass of one member, 4 tokens", "cycles an output", "one call: 1 member, 4 tokens, 1 thread"):
        assert part in done.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert {"model", "members", "tokens", "threads", "ms", "products_ms", "operations"} <= set(found)
    assert {"layer", "part", "ms", "share", "ns_an_output", "cycles_an_output"} == set(found["parts"][0])
    assert found["gigahertz"] > 0 and found["cycles_counted"] in (True, False)
    assert found["call"]["threads"] == len(found["call"]["computes_ms"]) == 1
