"""Repeat cells of docs/results/cells.md: train an ensemble on a GLUE task, score it with the packed engine, record it.

    python benchmarks/glue/run.py --list
    python benchmarks/glue/run.py --data glue/ --encoder models/tiny --task CoLA --base binarybert --seed 1,2,3
    python benchmarks/glue/run.py --data glue/ --encoder models/tiny --task CoLA,RTE --base bit --seed 1 --no-record

--data holds one folder a task with train.tsv and dev.tsv (header sentence1[, sentence2], label). Every combination of
tasks, bases, distillations and seeds is one cell: one run folder, one JSON line in results/glue.jsonl. Settings are in
settings.toml. A killed run goes on after its last finished stage; a cell that has a record is skipped. The
full-precision model of an encoder, task and seed is trained once, for all bases. Dev files are for the report only.

Some encoders of the settings are fine-tuned on a larger task first, once for all cells, and for some bases students
are too. --encoder is then what they start from, --name what they are called:

    python benchmarks/glue/run.py --data glue/ --encoder models/tiny --name tiny-mnli --task RTE --base binarybert
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts find their neighbours so

from glue.records import (
    NAME,
    SETTINGS,
    Cell,
    cell_options,
    find_file,
    first_task,
    main_metric,
    planned,
    read_records,
    read_settings,
    teacher_options,
)
from glue.summary import Summary
from record import RESULTS, OtherLoad, write_record
from rich.console import Console
from rich.table import Table

from bebert_export.data.examples import read_examples
from bebert_export.evaluate import noise_report, report, texts_of
from bebert_export.pipeline.settings import check
from bebert_export.pipeline.transfer import StudentForm
from bebert_export.train import TrainOptions, train, train_full_precision
from bebert_infer import Ensemble
from bebert_infer.errors import BebertError, InputError
from bebert_infer.threads import thread_budget

SIGMAS = (0.1, 0.01)  # BEBERT: variance 0.01 in the paper, standard deviation 0.01 in its code


def run_cell(cell: Cell, arguments: argparse.Namespace, settings: dict[str, Any], console: Console) -> dict[str, Any]:
    """Train or resume a cell, score it, and return its record."""
    common = _common(cell, arguments)
    threads = common["threads"]
    shared, out = arguments.out / cell.shared_folder, arguments.out / cell.folder
    encoder = _tuned_first(cell, arguments, settings, console)
    teacher = _options(common | teacher_options(settings, cell), encoder, shared)
    values = common | cell_options(settings, cell) | {"distill": cell.distill, "teacher_epochs": 0}
    if base := values.pop("students_of", None):
        values["start_from"] = _student_first(base, cell, encoder, arguments, settings, console)
    if arguments.members is not None:
        values["members"] = arguments.members
    options = _options(values, shared / "full_precision", out)
    check(options)  # now, not after the first stage
    load = OtherLoad()
    teacher_facts = train_full_precision(teacher, console)
    resumed = out.exists()
    started = time.perf_counter()
    results = train(options, console)
    whole = time.perf_counter() - started
    numbers = scores(cell.task, results, out / "model", common["dev"], threads, arguments.noise_seeds, console)
    seconds = {
        "full_precision": round(teacher_facts["seconds"], 1),
        **{stage: round(facts["seconds"], 1) for stage, facts in results["students"].items()},
        "members": [facts["seconds"] for facts in results["members"]],
        "students": round(results["seconds"]["training"] - results["full_precision"]["seconds"], 1),
        # With predictions between the stages, packing, parity check and scores; unknown of a run that was resumed.
        "whole_run": None if resumed else round(whole, 1),
    }
    return {
        "cell": asdict(cell),
        "options": results["options"],
        "first_task": first_task(settings, cell.encoder),
        "full_precision_options": teacher_options(settings, cell),
        "data": results["data"],
        "held_out_rows": results["held_out_rows"],
        "dev_rows_also_in_train": results["dev_rows_also_in_train"],
        "threads": threads,
        "precision": results["machine"]["precision"],
        "cores_of_others": load.cores(),
        "metric": main_metric(cell.task),
        **numbers,
        "seconds": seconds | numbers["seconds"],
        "bytes": {name: results["bytes"][name] for name in ("model", "full_precision")},
    }


def _common(cell: Cell, arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of every run of a cell: its files, its seed, the threads."""
    files: dict[str, Any] = {split: find_file(arguments.data, cell.task, split) for split in ("train", "dev")}
    return files | {"seed": cell.seed, "threads": thread_budget(arguments.threads)[0]}


def _tuned_first(cell: Cell, arguments: argparse.Namespace, settings: dict[str, Any], console: Console) -> Path:
    """The encoder of a cell: as it was passed, or fine-tuned on another task first; all seeds share it."""
    task = first_task(settings, cell.encoder)
    if task is None:
        return Path(arguments.encoder)
    first = Cell(cell.encoder, task, cell.base, cell.distill, seed=1)
    out = arguments.out / first.shared_folder
    values = _common(first, arguments) | teacher_options(settings, first)
    train_full_precision(_options(values, arguments.encoder, out), console)
    return Path(out / "full_precision")


def _student_first(
    base: str, cell: Cell, encoder: Path, arguments: argparse.Namespace, settings: dict[str, Any], console: Console
) -> Path:
    """Run folder of one member of a base on the first task, distilled as the cell; for all seeds and tasks."""
    task = first_task(settings, cell.encoder)
    if task is None:
        raise InputError(f"students_of of {cell.folder} is for encoders that have a first_task; leave it out")
    first = Cell(cell.encoder, task, base, cell.distill, seed=1)
    values = _common(first, arguments) | cell_options(settings, first) | {"members": 1, "teacher_epochs": 0}
    if values.pop("students_of", None) != base:
        raise InputError(f"students_of of {cell.folder} is not for {task}, its first task; name no task beside it")
    options = _options(values, encoder, arguments.out / first.folder)
    student = options.out / "stages" / f"{StudentForm.of(vars(options)).first_stage}.safetensors"
    finished = student.is_file() and (options.out / "results.json").is_file()
    make = train_full_precision if finished else train  # the one only refuses a folder made with other settings
    make(options, console)
    return options.out


def _options(values: dict[str, Any], init: Path, out: Path) -> TrainOptions:
    unknown = sorted(values.keys() - {field.name for field in fields(TrainOptions)})
    if unknown:
        raise InputError(f"the settings have {', '.join(unknown)}; accepted are the options of `bebert train`, with _")
    return TrainOptions(init=str(init), out=out, **values)


def scores(
    task: str, results: dict[str, Any], model: Path, dev: Path, threads: int, noise_seeds: int, console: Console
) -> dict[str, Any]:
    """Main score, times 100, of everything with and without noise; the packed model is read from its folder."""
    main = main_metric(task)
    started = time.perf_counter()
    ensemble = Ensemble.from_pretrained(model, threads=threads)
    examples = read_examples(dev)
    encoded = ensemble.encode(texts_of(examples), truncate=True)
    with console.status(f"scoring {len(examples):,} examples"):
        figures = report(ensemble, examples, encoded, None, None)
    for entry, metrics in zip(figures["members"], results["dev"]["members"], strict=True):
        if {name: metric["value"] for name, metric in entry["metrics"].items()} != metrics:
            raise SystemExit(f"{model} does not score as {model.parent / 'results.json'} says; delete the run, repeat")
    scored = time.perf_counter()
    noise = []
    for sigma in SIGMAS:
        with console.status(f"noise of sigma {sigma:g}, {noise_seeds} seeds"):
            noise.append(_noise(noise_report(ensemble, examples, encoded, sigma, noise_seeds), main))
    ended = time.perf_counter()
    return {
        "alphas": figures["alphas"],
        "errors": [facts["error"] for facts in results["members"]],
        "full_precision": round(100 * results["dev"]["full_precision"][main], 4),
        "members": [_entry(entry, main) for entry in figures["members"]],
        "ensembles": {rule: [_entry(entry, main) for entry in row] for rule, row in figures["ensembles"].items()},
        "noise": noise,
        "seconds": {"scoring": round(scored - started, 1), "noise": round(ended - scored, 1)},
    }


def _entry(entry: dict[str, Any], main: str) -> float | None:
    """Main score of one model of the report; None where its alphas leave no answer."""
    return None if "undefined" in entry else round(100 * entry["metrics"][main]["value"], 4)


def _noise(level: dict[str, Any], main: str) -> dict[str, Any]:
    """Mean and sample standard deviation of the main score over the seeds of one sigma."""

    def spread(entry: dict[str, Any]) -> dict[str, float] | None:
        if "undefined" in entry:
            return None
        return {name: round(100 * entry[main][name], 4) for name in ("mean", "std")}

    return {
        "sigma": level["sigma"],
        "seeds": len(level["seeds"]),
        "members": [spread(entry) for entry in level["members"]],
        "ensembles": {rule: [spread(entry) for entry in row] for rule, row in level["ensembles"].items()},
    }


def cells_table(settings: dict[str, Any], records: dict[Cell, dict[str, Any]]) -> Table:
    """Cells of the page, one line for each encoder, task, base and distillation, with its seeds that have a record."""
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for cell in planned(settings):
        rows.setdefault((cell.encoder, cell.task, cell.base, cell.distill), []).append(cell)
    table = Table("encoder", "task", "base", "distill", "seeds with a record", "seeds without")
    for names, cells in rows.items():
        done = [str(cell.seed) for cell in cells if cell in records]
        missing = [str(cell.seed) for cell in cells if cell not in records]
        table.add_row(*names, ", ".join(done) or "–", ", ".join(missing) or "–")
    return table


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with one folder a GLUE task")
    parser.add_argument("--encoder", type=Path, help="folder of a pretrained BERT encoder, Hugging Face layout")
    parser.add_argument("--name", help="name of the encoder in settings and records (default: its folder's)")
    parser.add_argument("--task", type=_parts, help="CoLA, SST-2, …; several with commas, as all below")
    parser.add_argument("--base", type=_parts, default=["binarybert"], help="binarybert (default), bibert, bit")
    parser.add_argument("--distill", type=_parts, default=["none"], help="none (default), prediction, two-stage, …")
    parser.add_argument("--seed", type=_parts, default=["1"], help="default 1")
    parser.add_argument("--members", type=int, help="another number of members than the settings say")
    parser.add_argument("--noise-seeds", type=int, default=30, help="runs for each sigma, at least 2 (default 30)")
    parser.add_argument("--threads", type=int, help="thread budget of training and scoring (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the run folders (default runs/)")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="default settings.toml beside this script")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"folder of {NAME}.jsonl (default results/)")
    parser.add_argument("--again", action="store_true", help="also cells that have a record: score anew, record again")
    parser.add_argument("--no-record", action="store_true", help="append nothing, print the record")
    parser.add_argument("--list", action="store_true", help="show the cells of the page and which have a record")
    arguments = parser.parse_args()
    if not arguments.list and None in (arguments.data, arguments.encoder, arguments.task):
        parser.error("--data, --encoder and --task are needed (or --list)")
    if arguments.members is not None and arguments.members < 1:
        parser.error("--members must be at least 1")
    if arguments.noise_seeds < 2 or not all(seed.isdigit() for seed in arguments.seed):
        parser.error("--noise-seeds must be at least 2, --seed whole numbers with commas")
    return arguments


def _run(arguments: argparse.Namespace, console: Console) -> None:
    settings, records = read_settings(arguments.settings), read_records(arguments.results)
    if arguments.list:
        console.print(cells_table(settings, Summary(records, settings).records))
        return
    encoder = arguments.name or arguments.encoder.resolve().name
    failed = []
    for task, base, distill, seed in product(arguments.task, arguments.base, arguments.distill, arguments.seed):
        cell = Cell(encoder, task, base, distill, int(seed))
        try:
            members = arguments.members or cell_options(settings, cell)["members"]
            if cell in records and records[cell]["options"]["members"] >= members and not arguments.again:
                console.print(f"{cell.folder} has a record; --again repeats it", highlight=False)
                continue
            console.rule(cell.folder)
            record = run_cell(cell, arguments, settings, console)
        except BebertError as error:  # the other cells may still work
            console.print(f"{cell.folder}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            failed.append(cell.folder)
            continue
        if arguments.no_record:
            console.print_json(json.dumps(record))
        else:
            console.print(f"record appended to {write_record(NAME, record, arguments.results)}", highlight=False)
    if failed:
        raise SystemExit(f"error: no record of {', '.join(failed)}; the reasons are above")


def main() -> None:
    """Run or list cells; mistakes are one sentence."""
    try:
        _run(_arguments(), Console())
    except BebertError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
