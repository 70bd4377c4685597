"""What a finished run says of itself: the facts of results.json, and the first words of the model card."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bebert_export.data.examples import Examples
from bebert_export.data.glue import HUB as GLUE
from bebert_export.data.metrics import CLASS_RULES
from bebert_export.distributed import chosen_precision, device, processes
from bebert_export.evaluation.early_exits import EXACT, early_exit_curve
from bebert_export.evaluation.split_scores import packed_logits, score_all
from bebert_export.pack.card_metadata import CardFacts, Measured
from bebert_export.pipeline.data import TaskData
from bebert_export.pipeline.full_precision_stage import FullPrecision
from bebert_export.pipeline.member_stage import Member
from bebert_export.pipeline.options import TrainOptions, command_line, deciding
from bebert_export.pipeline.run_folder import RunFolder

# What `datasets.load_dataset` calls a kind of file.
FILE_KINDS = {".tsv": "csv", ".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}
PACKAGES = ("bebert-infer", "torch", "transformers", "tokenizers", "numpy", "scikit-learn")


def run_results(
    options: TrainOptions,
    data: TaskData,
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
    chosen = deciding(options) | {
        "init": Path(options.init).absolute().name,
        "combine": options.rule,
        "start_from": None,
    }
    if options.teacher is not None:
        chosen["teacher"] = options.teacher.absolute().name
    if options.start_from is not None:
        claimed = RunFolder(options.out).options() or {}
        chosen |= {"start_from": options.start_from.absolute().name}
        chosen |= {"start_from_sha256": claimed["start_from_sha256"]}
    found = {
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
    if len(members) > 1 and options.rule in CLASS_RULES:
        curve = early_exit_curve(options.rule, packed, np.asarray(alphas, np.float64), full.dev.targets)
        found["early_exit"] = curve
    return found


def _file_facts(file: Examples) -> dict[str, Any]:
    return {"file": file.path.name, "rows": len(file), "sha256": file.sha256}


def _repeated(data: TaskData) -> int:
    """Dev examples whose text (and second text) occurs in the training file: their answers may be remembered."""
    seen = set(zip(data.train.texts, data.train.pairs or data.train.texts, strict=True))
    return sum(pair in seen for pair in zip(data.dev.texts, data.dev.pairs or data.dev.texts, strict=True))


def model_bytes(out: Path) -> dict[str, int]:
    """Real sizes on disk: every file of the model, their sum, and the full-precision weights."""
    sizes = {file.name: file.stat().st_size for file in sorted((out / "model").iterdir())}
    weights = (out / "full_precision" / "model.safetensors").stat().st_size
    return sizes | {"model": sum(sizes.values()), "full_precision": weights}


def card_text(options: TrainOptions, data: TaskData, results: dict[str, Any]) -> str:
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
            *_early_exit(results),
        ]
    )


def card_facts(options: TrainOptions, data: TaskData, results: dict[str, Any]) -> CardFacts:
    """What the model card says to the hub: what was asked for, else what the run knows for sure."""
    task = options.known_task
    base = () if Path(options.init).is_dir() or Path(options.init).is_absolute() else (options.init,)
    scores = results["dev"]["ensemble"][results["combination"]]
    # A file of one's own need not hold GLUE's rows, whatever task it is scored like.
    if task is not None and options.dev is None:
        measured = Measured(GLUE, f"GLUE {task.name}", scores, task.config, task.dev)
    else:
        kind = FILE_KINDS.get(data.dev.path.suffix, "text")
        known = options.datasets[0] if len(options.datasets) == 1 else kind
        measured = Measured(known, data.dev.path.name, scores, split="validation")
    return CardFacts(
        licence=options.licence,
        languages=options.languages or (() if task is None else ("en",)),
        base_models=options.base_models or base,
        datasets=options.datasets or ((GLUE,) if task is not None and options.train is None else ()),
        example=options.example,
        measured=measured,
    )


def _early_exit(results: dict[str, Any]) -> list[str]:
    """How many members have to speak until the label is settled, in the words of the card."""
    exact = [row for row in results.get("early_exit", []) if row["early_exit"] == EXACT]
    return [
        sentence
        for row in exact
        for sentence in (
            "",
            f'With `early_exit="exact"` {row["mean_members"]:.2f} of {len(row["by_count"])} members run for a row of '
            f"the dev split on average, and {row['labels_changed']} labels differ from those of all members.",
        )
    ]
