"""`bebert train`: from a pretrained BERT and labelled files to a packed ensemble, in one resumable run.

calibration      --budget-minutes: measure speeds, scale epochs           <out>/stages
full_precision   fine-tune the encoder, trimmed if asked                  <out>/full_precision (HF layout)
ternary          1-1-4 binarybert: train the student that will be split   <out>/stages
student_<b>bit   --steps: train the students in between                   <out>/stages
member_<i>       train, predict the training file in order, re-weigh      <out>/stages
<...>_of_member_<i>  --warm-start own: its students, before each member   <out>/stages
model            pack, check against PyTorch, write                       <out>/model
results          score all of it on the dev split                         <out>/results.json
"""

import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from bebert_export.atomic_writes import write_json
from bebert_export.checkpoints.pretrained import check_init
from bebert_export.data.examples import Examples
from bebert_export.data.metrics import evaluate, main_first
from bebert_export.distributed import chosen_precision, device, is_main, processes, processes_here
from bebert_export.evaluation.split_scores import packed_logits, score_all
from bebert_export.pack.write_model import write_ensemble
from bebert_export.pipeline.full_precision_stage import Data, FullPrecision, full_precision, read_data
from bebert_export.pipeline.member_stage import Boosting, Member
from bebert_export.pipeline.options import TrainOptions
from bebert_export.pipeline.run_folder import EARLIER, RunFolder
from bebert_export.pipeline.run_readme import write_readme
from bebert_export.pipeline.speed_probe import calibrate
from bebert_export.pipeline.student_stage import Start, first_student
from bebert_export.pipeline.transfer import earlier_student
from bebert_export.student.schemes import recipe
from bebert_infer.artifact.folder import check_place
from bebert_infer.errors import InputError
from bebert_infer.threads import thread_budget

__all__ = ["TrainOptions", "is_main", "train", "train_full_precision"]

MEMBER_SEED = 100  # member i trains with seed + MEMBER_SEED + i
# Options that change where a run lies, how fast it goes and what its card says, not what it computes.
FREE_OPTIONS = ("train", "dev", "out", "start_from", "threads", "licence", "snapshot_minutes", "tensorboard")
# What of the results travels with the model, beside the parity measured at writing.
EVIDENCE = (
    "options",
    "data",
    "trained_rows",
    "held_out_rows",
    "labels",
    "dev_rows_also_in_train",
    "dev",
    "students",
    "members",
    "versions",
)
PACKAGES = ("bebert-infer", "torch", "transformers", "tokenizers", "numpy", "scikit-learn")


def train(options: TrainOptions, console: Console | None = None) -> dict[str, Any]:
    """Run or resume a training and return what `<out>/results.json` holds.

    Raises InputError (also as DataError) for options or files that do not fit, TrainingError if the first
    member learns nothing, ParityError if the packed model does not compute what PyTorch computes.
    """
    console = console or Console(quiet=not is_main())
    if not options.members:
        raise InputError("members is 0; accepted are whole numbers of at least 1, or train_full_precision")
    plan = recipe(options.scheme, options.base)
    threads, _ = thread_budget(options.threads)
    started = time.perf_counter()
    with _begun(options, console) as (data, run):
        asked = options
        options, calibration = calibrate(asked, plan, data, run, console, started)
        full = full_precision(options, data, run, console)
        own = options.warm_start == "own"
        before: dict[str, dict[str, Any]] = {}

        @lru_cache(maxsize=1)  # one in memory at a time: members come in order
        def start(member: int) -> Start:
            begun = first_student(options, plan, full, run, console, member)
            before.update(begun.facts)
            return begun

        members = Boosting(
            plan=plan,
            start=lambda member: start(member if own else 0),
            method=options.boosting,
            from_previous=options.warm_start == "previous",
            rule="code" if options.compat else "samme",
            shrinkage=options.shrinkage,
            train=full.train,
            held=full.held,
            dev=full.dev.encoded,
            schedule=options.schedule(options.epochs, options.learning_rate),
            seed=options.seed + MEMBER_SEED,
            run=run,
            console=console,
        ).members(options.members)
        results = _finish(asked, data, full, before, calibration, members, threads, started) if is_main() else {}
        write_json(options.out / "results.json", results)
        write_readme(options.out, command_line(asked), results)
        return results or json.loads((options.out / "results.json").read_text("utf-8"))


def _finish(
    options: TrainOptions,
    data: Data,
    full: FullPrecision,
    students_before: dict[str, dict[str, Any]],
    calibration: dict[str, Any] | None,
    members: list[Member],
    threads: int,
    started: float,
) -> dict[str, Any]:
    """Pack, check and write the model; score everything. The main process alone does this."""
    results = _results(options, data, full, students_before, members, threads)
    results["calibration"] = calibration
    written = write_ensemble(
        [member.student for member in members],
        options.out / "model",
        alphas=[member.alpha for member in members],
        combination=options.rule,
        labels=data.names,
        tokenizer_json=full.tokenizer.to_str(),
        max_length=options.max_length,
        evidence={key: results[key] for key in EVIDENCE},
        card=_card(options, data, results),
    )
    results["parity"] = written.parity.summary()
    results["bytes"] = _bytes(options.out)
    stages = [full.facts, *students_before.values(), *results["members"]]
    results["seconds"] = {
        "training": round(sum(facts["seconds"] for facts in stages), 1),  # of all processes, if the run was resumed
        "this_process": round(time.perf_counter() - started, 1),
    }
    return results


def train_full_precision(options: TrainOptions, console: Console | None = None) -> dict[str, Any]:
    """Run only the first stage, or read what an earlier call left in the folder; returns its facts and dev metrics.

    `<out>/full_precision` can be the `init` of several runs: with `teacher_epochs` 0 as it is, else as an encoder that
    has learned a larger task first. `train` with members goes on in the same folder. Raises like `train`.
    """
    console = console or Console(quiet=not is_main())
    with _begun(options, console) as (data, run):
        full = full_precision(options, data, run, console)
        if not options.members:
            write_readme(options.out, command_line(options), None, alone=True)
    return full.facts | {"dev": main_first(options.known_task, evaluate(full.dev.targets, full.dev_logits))}


@contextmanager
def _begun(options: TrainOptions, console: Console) -> Iterator[tuple[Data, RunFolder]]:
    """Check options and files, claim the folder until the block ends, and say in it what it is."""
    options.check()
    check_place(options.out / "model")  # now, not after hours
    data = read_data(options)
    run = RunFolder(options.out, 60 * options.snapshot_minutes, options.tensorboard)
    if not run.has("full_precision"):  # a resumed run no longer needs the encoder
        check_init(options.init)
    held = hashlib.sha256(data.held.tobytes()).hexdigest()  # a release that draws other rows must not go on
    claimed = _fixed(options) | {"init": _place(options.init, run), "held_out_sha256": held}
    earlier = earlier_student(options, run)
    if earlier is not None:
        claimed["start_from_sha256"] = earlier[1]["sha256"]
    claimed |= {"train_sha256": data.train.sha256, "dev_sha256": data.dev.sha256}
    # No member depends on how many follow it, unless all share a budget of time.
    with run.claim(claimed, ("members",) if options.budget_minutes is None else (), console):
        if earlier is not None:
            run.save(EARLIER, *earlier)
        if not (options.out / "results.json").is_file():
            write_readme(options.out, command_line(options), None)
        torch.set_num_threads(max(1, thread_budget(options.threads)[0] // processes_here()))
        yield data, run


def _place(init: str, run: RunFolder) -> str:
    """The encoder by one name: of a folder, also if it was there when the run began, its path; else the id of a hub."""
    place = str(Path(init).resolve())
    was_there = (run.options() or {}).get("init") == place
    return place if was_there or Path(init).is_dir() else os.path.normpath(init)


def _results(
    options: TrainOptions,
    data: Data,
    full: FullPrecision,
    students_before: dict[str, dict[str, Any]],
    members: list[Member],
    threads: int,
) -> dict[str, Any]:
    """Everything about the run that is known before the model is written."""
    students = [member.student for member in members]
    alphas = [member.alpha for member in members]
    packed = packed_logits(students, alphas, data.names, full.dev.encoded, threads)
    torch_logits = np.stack([member.dev_logits for member in members])
    chosen = _fixed(options) | {"init": Path(options.init).absolute().name, "combine": options.rule, "start_from": None}
    if options.start_from is not None:
        claimed = RunFolder(options.out).options() or {}
        chosen |= {"start_from": options.start_from.absolute().name}
        chosen |= {"start_from_sha256": claimed["start_from_sha256"]}
    return {
        "options": chosen,
        "data": {name: _file_facts(file) for name, file in (("train", data.train), ("dev", data.dev))},
        "trained_rows": len(data.trained),
        "held_out_rows": len(data.held),
        "dev_rows_also_in_train": _repeated(data),
        "labels": dict(zip(data.names, data.values, strict=True)),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": {
            "processor": platform.machine(),
            "cpus": os.cpu_count(),
            "threads": threads,
            "device": device().type,
            "processes": processes().num_processes,
            "precision": chosen_precision(options.precision),
        },
        "full_precision": full.facts,
        "students": students_before,
        "members": [member.facts for member in members],
        "combination": options.rule,
        "dev": score_all(full.dev, full.dev_logits, torch_logits, packed, alphas, options.known_task),
    }


def _fixed(options: TrainOptions) -> dict[str, Any]:
    """Options that decide the result, as JSON values; data files count by their content, not their place."""
    values = {name: value for name, value in dataclasses.asdict(options).items() if name not in FREE_OPTIONS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _file_facts(file: Examples) -> dict[str, Any]:
    return {"file": file.path.name, "rows": len(file), "sha256": file.sha256}


def _repeated(data: Data) -> int:
    """Dev examples whose text (and second text) occurs in the training file: their answers may be remembered."""
    seen = set(zip(data.train.texts, data.train.pairs or data.train.texts, strict=True))
    return sum(pair in seen for pair in zip(data.dev.texts, data.dev.pairs or data.dev.texts, strict=True))


def _bytes(out: Path) -> dict[str, int]:
    """Real sizes on disk: every file of the model, their sum, and the full-precision weights."""
    sizes = {file.name: file.stat().st_size for file in sorted((out / "model").iterdir())}
    weights = (out / "full_precision" / "model.safetensors").stat().st_size
    return sizes | {"model": sum(sizes.values()), "full_precision": weights}


def _card(options: TrainOptions, data: Data, results: dict[str, Any]) -> str:
    """What the model card says first: data, licence, command, seed, and accuracy of everything on the dev split."""
    scores = results["dev"]
    rows = {"full precision": scores["full_precision"]}
    rows |= {stage.replace("_", " "): facts["dev"] for stage, facts in results["students"].items()}
    rows |= {f"member {index}": metrics for index, metrics in enumerate(scores["members"])}
    rows |= {f"ensemble by {rule}": metrics for rule, metrics in scores["ensemble"].items()}
    names = list(scores["full_precision"])
    return "\n".join(
        [
            f"Trained by `bebert train` from `{Path(options.init).name}` on {len(data.train):,} rows of "
            f"`{data.train.path.name}`, reported on {len(data.dev):,} rows of `{data.dev.path.name}`, which were never "
            "used for choosing.",
            "",
            f"Licence: {options.licence or 'the licences of that encoder and of that data apply'}.",
            "",
            "```",
            command_line(options),
            "```",
            "",
            f"The seed is {options.seed}. Scores on the dev split, members and ensemble by the packed engine:",
            "",
            f"| | {' | '.join(name.replace('_', ' ') for name in names)} |",
            "|---|" + "---:|" * len(names),
            *(f"| {row} | {' | '.join(f'{metrics[name]:.4f}' for name in names)} |" for row, metrics in rows.items()),
        ]
    )


def command_line(options: TrainOptions) -> str:
    """The `bebert train` command with every option that is not a default; files by their last two names."""
    words = ["bebert train"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in ("out", "threads", "licence", "snapshot_minutes", "tensorboard") or value == field.default:
            continue
        if field.name == "init":
            value = Path(value).name
        elif isinstance(value, Path):
            value = Path(*value.parts[-2:])
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        flag = "--" + field.name.replace("_", "-")
        words.append(flag if value is True else f"{flag} {value}")
    return " ".join([*words, "--out RUN"])
