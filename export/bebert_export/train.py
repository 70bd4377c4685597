"""`bebert train`: from a pretrained BERT and labelled files to a packed ensemble, in one resumable run.

calibration      --budget-minutes: measure speeds, scale epochs           <out>/stages
full_precision   fine-tune the encoder, trimmed if asked                  <out>/full_precision (HF layout)
teacher          --teacher: the logits of another classifier              <out>/stages
ternary          1-1-4 binarybert: train the student that will be split   <out>/stages
student_<b>bit   --steps: train the students in between                   <out>/stages
member_<i>       train, predict the training file in order, re-weigh      <out>/stages
<...>_of_member_<i>  --warm-start own: its students, before each member   <out>/stages
model            pack, check against PyTorch, write                       <out>/model
results          score all of it on the dev split                         <out>/results.json
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bebert_export.atomic_writes import write_json
from bebert_export.checkpoints.pretrained import check_init
from bebert_export.data.metrics import evaluate, main_first
from bebert_export.distributed import is_main, processes_here
from bebert_export.pack.write_model import write_ensemble
from bebert_export.pipeline.data import TaskData, read_data
from bebert_export.pipeline.full_precision_stage import FullPrecision, full_precision
from bebert_export.pipeline.member_stage import Member, MemberStage
from bebert_export.pipeline.options import TrainOptions, command_line, deciding
from bebert_export.pipeline.results import card_facts, card_text, model_bytes, run_results
from bebert_export.pipeline.run_folder import EARLIER, RunFolder
from bebert_export.pipeline.run_readme import write_readme
from bebert_export.pipeline.settings import check, data_settings, stage_settings
from bebert_export.pipeline.speed_probe import epochs_in_budget
from bebert_export.pipeline.student_stage import StartingStudent, train_starting_student
from bebert_export.pipeline.teacher_stage import teacher_logits
from bebert_export.pipeline.transfer import StudentForm, earlier_student
from bebert_export.student.schemes import with_positions
from bebert_export.training.allocator import keep_freed_memory
from bebert_infer.artifact.folder import check_place
from bebert_infer.errors import InputError
from bebert_infer.threads import thread_budget

__all__ = ["TrainOptions", "is_main", "train", "train_full_precision"]

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


def train(options: TrainOptions, console: Console | None = None) -> dict[str, Any]:
    """Run or resume a training and return what `<out>/results.json` holds.

    Raises InputError (also as DataError) for options or files that do not fit, TrainingError if the first
    member learns nothing, ParityError if the packed model does not compute what PyTorch computes.
    """
    console = console or Console(quiet=not is_main())
    if not options.members:
        raise InputError("members is 0; accepted are whole numbers of at least 1, or train_full_precision")
    threads, _ = thread_budget(options.threads)
    started = time.perf_counter()
    with _begun(options, console) as (data, run):
        settings, calibration = stage_settings(options), None
        if options.budget_minutes is not None:
            calibration = epochs_in_budget(options.budget_minutes, settings, data, run, console, started)
            settings = stage_settings(replace(options, **calibration["epochs"]))
        full = full_precision(settings.full_precision, data, run, console)
        if options.teacher is not None:
            full = replace(full, train_logits=teacher_logits(options.teacher, data, run, console))
        own = settings.members.warm_start == "own"
        before: dict[str, dict[str, Any]] = {}

        @lru_cache(maxsize=1)  # one in memory at a time: members come in order
        def start(member: int) -> StartingStudent:
            begun = train_starting_student(settings.students, full, run, console, member)
            before.update(begun.facts)
            return begun

        stage = MemberStage(settings.members, lambda member: start(member if own else 0), full, run, console)
        members = stage.members()
        results = _finish(options, data, full, before, calibration, members, threads, started) if is_main() else {}
        write_json(options.out / "results.json", results)
        write_readme(options.out, command_line(options), results)
        return results or json.loads((options.out / "results.json").read_text("utf-8"))


def _finish(
    options: TrainOptions,
    data: TaskData,
    full: FullPrecision,
    students_before: dict[str, dict[str, Any]],
    calibration: dict[str, Any] | None,
    members: list[Member],
    threads: int,
    started: float,
) -> dict[str, Any]:
    """Pack, check and write the model; score everything. The main process alone does this."""
    results = run_results(options, data, full, students_before, members, threads)
    results["calibration"] = calibration
    written = write_ensemble(
        [with_positions(member.student, options.max_length) for member in members],  # the others were never trained
        options.out / "model",
        alphas=[member.alpha for member in members],
        combination=options.rule,
        labels=data.names,
        problem=data.problem,
        tokenizer_json=full.tokenizer.to_str(),
        max_length=options.max_length,
        evidence={key: results[key] for key in EVIDENCE},
        card=card_text(options, data, results),
        facts=card_facts(options, data, results),
    )
    results["parity"] = written.parity.summary()
    results["bytes"] = model_bytes(options.out)
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
        full = full_precision(stage_settings(options).full_precision, data, run, console)
        if not options.members:
            write_readme(options.out, command_line(options), None, alone=True)
    return full.facts | {"dev": main_first(options.known_task, evaluate(full.dev.targets, full.dev_logits))}


@contextmanager
def _begun(options: TrainOptions, console: Console) -> Iterator[tuple[TaskData, RunFolder]]:
    """Check options and files, claim the folder until the block ends, and say in it what it is."""
    check(options)
    check_place(options.out / "model")  # now, not after hours
    data = read_data(data_settings(options))
    run = RunFolder(options.out, 60 * options.snapshot_minutes, options.tensorboard)
    if not run.has("full_precision"):  # a resumed run no longer needs the encoder
        check_init(options.init, seen_inside=options.seen_inside)
    held = hashlib.sha256(data.held.tobytes()).hexdigest()  # a release that draws other rows must not go on
    claimed = deciding(options) | {"init": _place(options.init, run), "held_out_sha256": held}
    earlier = None
    if options.start_from is not None:
        form = StudentForm.of(vars(options))
        earlier = earlier_student(options.start_from, options.init, options.vocabulary_size, form, run)
        claimed["start_from_sha256"] = earlier[1]["sha256"]
    claimed |= {"train_sha256": data.train.sha256, "dev_sha256": data.dev.sha256}
    # No member depends on how many follow it, unless all share a budget of time.
    with run.claim(claimed, ("members",) if options.budget_minutes is None else (), console):
        if earlier is not None:
            run.save(EARLIER, *earlier)
        if not (options.out / "results.json").is_file():
            write_readme(options.out, command_line(options), None)
        keep_freed_memory()
        torch.set_num_threads(max(1, thread_budget(options.threads)[0] // processes_here()))
        yield data, run


def _place(init: str, run: RunFolder) -> str:
    """The encoder by one name: of a folder, also if it was there when the run began, its path; else the id of a hub."""
    place = str(Path(init).resolve())
    was_there = (run.options() or {}).get("init") == place
    return place if was_there or Path(init).is_dir() else os.path.normpath(init)
