"""Comparing two benchmark runs shows a real slowdown, keeps quiet about noise, and names what else differs."""

import copy
import io
import json
import re

import pytest
from bench_runs import bench_run
from rich.console import Console

from bebert_infer.bench.compare import CHANGED, FASTER, FEWEST, SAME, SLOWER, UNKNOWN, compare, compare_runs
from bebert_infer.bench.records import parse_run, read_run
from bebert_infer.errors import DataError

PACKED = "1-1-4 half width, 2 members"


@pytest.fixture
def run():
    return bench_run(count=3, lengths=(16, 128))


def _slower(run, factor, engine=PACKED):
    """The same run with times of one engine longer by a factor."""
    run = copy.deepcopy(run)
    for row in [*run["latency"], *run["throughput"]]:
        if row["engine"] == engine:
            for name in ("median_ms", "p10_ms", "p90_ms"):
                row[name] *= factor
    return run


def _compare(a, b):
    return compare(parse_run(a), parse_run(b))


@pytest.mark.parametrize(("factor", "verdict"), [(1.2, SLOWER), (1.02, SAME), (1.0, SAME), (0.98, SAME), (0.8, FASTER)])
def test_a_slowdown_of_a_fifth_is_marked_and_one_within_the_noise_is_not(run, factor, verdict):
    changes = _compare(run, _slower(run, factor)).changes
    assert len(changes) == 3 * (2 + 2)  # three engines, two lengths and two batches
    for change in changes:
        packed = change.engine == PACKED
        assert change.verdict == (verdict if packed else SAME) and change.packed == packed
        assert change.ratio == pytest.approx(factor if packed else 1)


def test_the_verdict_says_that_the_ranges_do_not_overlap_and_so_does_the_band(run):
    for factor in (0.85, 0.9, 0.905, 0.91, 1.0, 1.1, 1.105, 1.11, 1.2):  # p10 and p90 lie at 0.96 and 1.06
        change = next(c for c in _compare(run, _slower(run, factor)).changes if c.engine == PACKED)
        a = next(row for row in run["latency"] if row["engine"] == PACKED)
        overlap = factor * a["p10_ms"] <= a["p90_ms"] and factor * a["p90_ms"] >= a["p10_ms"]
        assert (change.verdict == SAME) == overlap == (change.low <= change.ratio <= change.high)
        assert (change.low, change.high) == (pytest.approx(0.96 / 1.06), pytest.approx(1.06 / 0.96))


def test_noise_of_either_run_widens_the_band(run):
    noisy = copy.deepcopy(run)
    for row in noisy["latency"]:
        row["p90_ms"] *= 1.3
    assert {change.verdict for change in _compare(noisy, _slower(run, 1.2)).changes if change.batch == 1} == {SAME}


def test_few_calls_give_no_verdict(run):
    few = _slower(run, 2)
    for row in few["latency"]:
        row["calls"] = FEWEST - 1
    verdicts = {(change.batch, change.verdict) for change in _compare(run, few).changes if change.engine == PACKED}
    assert verdicts == {(1, UNKNOWN), (8, SLOWER), (32, SLOWER)}


def test_rows_of_one_run_only_are_listed(run):
    other = bench_run(count=2, lengths=(16, 128, 256))
    found = _compare(run, other)
    assert len(found.only_a) == 4 and all(PACKED in row for row in found.only_a)
    assert found.only_b == [
        "BERT-base, PyTorch fp32, 2 threads, 256 tokens, batch 1",
        "BERT-base, OpenVINO int8 NNCF, 2 threads, 256 tokens, batch 1",
    ]


def test_equal_runs_differ_in_nothing(run):
    found = _compare(run, run)
    assert found.differences == [f"Note of {name}: {run['notes'][0]}" for name in "AB"]
    assert not (found.figures or found.only_a or found.only_b)


def test_what_differs_around_the_figures_is_said(run):
    other = copy.deepcopy(run)
    other["machine"] |= {"cpu": "Cortex-A76", "isa": "neon", "cores": 4}
    other["machine"]["products"]["1×4"] = "lut"
    other["machine"]["versions"] |= {"numpy": "2.5", "openvino": "2026.4", "new": "1"}
    other["settings"] |= {"rounds": 9, "lengths": [16]}
    other["groups"][0]["geometry"]["layers"] = 3
    run["machine"]["versions"]["bebert-infer"], other["machine"]["versions"]["bebert-infer"] = "0.1.0", "0.2.0"
    run |= {"notes": []}
    other |= {"version_of_bebert": "0.2.0", "cores_of_others": 0.7, "notes": ["half of it."]}
    assert _compare(run, other).differences == [
        "Different CPU: A Intel(R) Xeon(R) Processor @ 2.50GHz (cpu family 6, model 85, stepping 7), B Cortex-A76.",
        "Different number of cores: A 2, B 4.",
        "Different instruction set: A avx512bw, B neon.",
        "Different version of bebert-infer: A 0.1.0, B 0.2.0.",
        "Different kernel of product 1×4: A bitsliced, B lut.",
        "Different version of numpy: A 2.4.6, B 2.5.",
        "Different version of openvino: A none, B 2026.4.",
        "Different version of new: A none, B 1.",
        "Different setting lengths: A 16, 128, B 16.",
        "Different setting rounds: A 7, B 9.",
        f"Different geometry of BERT-base: A {run['groups'][0]['geometry']}, B {other['groups'][0]['geometry']}.",
        "Others kept 0.70 cores busy during B (more than 0.2): its times may be too long.",
        "Note of B: half of it.",
    ]


def test_figures_that_are_taken_once_are_listed_when_they_moved(run):
    other = copy.deepcopy(run)
    first, second, third = other["engines"]
    first["bytes"] += 1
    first["load_s"] *= 0.99 * CHANGED
    second["peak_rss_bytes"] *= 2
    second["load_s"] = None
    third["accuracy"]["value"] -= 0.001
    third["first_answer_s"] /= 1.01 * CHANGED
    assert [row[:2] for row in _compare(run, other).figures] == [
        ("BERT-base: PyTorch fp32", "bytes on disk"),
        ("BERT-base: OpenVINO int8 NNCF", "peak memory (bytes)"),
        (f"BERT-base: {PACKED}", "accuracy on 872 rows"),
        (f"BERT-base: {PACKED}", "first answer (s)"),
    ]


def test_starts_of_an_older_format_are_read_and_not_compared(run):
    """They were those of another environment, and of another question."""
    old = copy.deepcopy(run) | {"version": 1}
    del old["import_numpy_s"], old["groups"][0]["start_of"]
    for engine in old["engines"]:
        del engine["install_bytes"], engine["install_packages"]
        engine["first_answer_s"] *= 3
    found = _compare(old, run)
    assert found.figures == []
    assert found.differences[0].startswith("Different format: A 1, B 2.")
    other = copy.deepcopy(run)
    other["engines"][0]["install_bytes"] += 1
    assert [row[1] for row in _compare(run, other).figures] == ["install size (bytes)"]


def _print(a, b, width=80):
    console = Console(file=io.StringIO(), width=width)
    compare_runs(a, b, console)
    return console.file.getvalue()


def test_printed_on_80_columns_from_a_folder_and_a_history(run, tmp_path):
    (tmp_path / "bench.json").write_text(json.dumps(run, indent=1))
    history = tmp_path / "bench.jsonl"
    history.write_text(json.dumps(_slower(run, 9)) + "\n\n" + json.dumps(_slower(run, 1.2)) + "\n\n")
    text = _print(tmp_path, history)
    assert text.count("slower") == 4 + 3 and text.count(SAME) == 8  # once more in the rule, twice in the summary
    assert re.search(r"16 tokens, 2 threads +9.318 +11.18 +1.20 +0.91–1.10 +slower", text) and "do not overlap" in text
    assert (
        "Packed models: B takes 1.200 times as long as A in the geometric mean; of 4 rows 4 slower, 0 faster." in text
    )
    assert "of 8 rows 0 slower, 0 faster" in text
    assert PACKED in text and all(len(line) <= 80 for line in text.splitlines() if SAME in line or "%" in line)


def test_a_small_change_of_all_rows_shows_in_the_mean(run, tmp_path):
    for name, factor in (("a", 1), ("b", 1.05)):
        (tmp_path / f"{name}.json").write_text(json.dumps(_slower(run, factor)))
    text = _print(tmp_path / "a.json", tmp_path / "b.json")
    assert "1.050 times as long as A in the geometric mean; of 4 rows 0 slower" in text


def test_names_from_a_file_are_no_markup_and_steer_no_terminal(run, tmp_path):
    name = "[bold]x[/bold] [/] \x1b[31m\\"
    text = json.dumps(run).replace(json.dumps(PACKED), json.dumps(name)).replace('"BERT-base"', json.dumps(name))
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.json").write_text(text.replace(json.dumps(name)[1:-1], "y"))
    text = _print(tmp_path / "a.json", tmp_path / "a.json") + _print(tmp_path / "a.json", tmp_path / "b.json")
    assert "[bold]x[/bold] [/] ?[31m\\" in text and "\x1b" not in text
    assert "no row in common" in text


def _edit(change):
    def write(file, run):
        change(run)
        file.write_text(json.dumps(run))

    return write


DAMAGES = {
    "is there": (lambda file, run: None, 'there is no file "FILE"; pass what bebert bench --output wrote'),
    "is text": (lambda file, run: file.write_bytes(b"\xff\xfe\x00"), "cannot be read as text"),
    "is JSON": (lambda file, run: file.write_text('{"format": '), "is not JSON: "),
    "is no list": (
        lambda file, run: file.write_text("[1]"),
        'is no run of bebert bench: "format" is not "bebert-bench"',
    ),
    "deep": (lambda file, run: file.write_text("[" * 100_000), "is not JSON: "),
    "NaN": (lambda file, run: file.write_text(json.dumps(run).replace("0.62", "NaN")), "is not JSON: "),
    "foreign": (lambda file, run: file.write_text('{"cpu": "x", "version": 1}'), 'is no run of bebert bench: "format"'),
    "future": (
        _edit(lambda run: run.update(version=3)),
        "has version 3 of the format; this bebert-infer reads 1 and 2",
    ),
    "no machine": (_edit(lambda run: run.pop("machine")), "is damaged: Object missing required field `machine`"),
    "no median": (
        _edit(lambda run: run["latency"][2].pop("median_ms")),
        r"is damaged: Object missing required field `median_ms` - at `\$.latency\[2\]`",
    ),
    "zero": (
        _edit(lambda run: run["latency"][0].update(median_ms=0)),
        r"is damaged: .* at `\$.latency\[0\].median_ms`",
    ),
    "text": (_edit(lambda run: run["engines"][0].update(bytes="5")), r"is damaged: .* at `\$.engines\[0\].bytes`"),
    "kind": (
        _edit(lambda run: run["engines"][0].update(kind="fp8")),
        r"is damaged: .*'fp8' - at `\$.engines\[0\].kind`",
    ),
    "twice": (
        _edit(lambda run: run["latency"].append(run["latency"][0])),
        "has two rows in latency for BERT-base, PyTorch fp32, 2, 16, 1",
    ),
    "unknown engine": (
        _edit(lambda run: run["latency"][0].update(engine="other")),
        "has a row in latency of engine 'other', which it does not describe",
    ),
    "unknown group": (
        _edit(lambda run: run["engines"][0].update(group="other")),
        "has an engine of group 'other', which it does not describe",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_run_is_one_sentence_with_its_name(run, tmp_path, damage):
    write, message = DAMAGES[damage]
    good, file = tmp_path / "good.json", tmp_path / "file.json"
    good.write_text(json.dumps(run))
    write(file, run)
    for pair in ((good, file), (file, good)):
        with pytest.raises(DataError, match=message.replace("FILE", str(file))) as caught:
            _print(*pair)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_an_error_in_a_history_names_its_line(run, tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps(run) + "\n\n{}\n\n")
    with pytest.raises(DataError, match=r'runs.jsonl", line 3, is no run of bebert bench'):
        read_run(file)
    file.write_text("\n \n")
    with pytest.raises(DataError, match=r'runs.jsonl" is empty'):
        read_run(file)


def test_fields_that_a_later_writer_adds_are_no_error(run, tmp_path):
    run["machine"]["fans"] = 3
    run["extra"] = {}
    (tmp_path / "bench.json").write_text(json.dumps(run))
    assert read_run(tmp_path).machine.cores == 2
