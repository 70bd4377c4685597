"""Accuracy on a labelled file, by the same code as `bebert eval`: the packed model and its parent."""

from pathlib import Path
from typing import Any

from bebert_infer.optional import load_export


def accuracies(model: Path, data: Path, full_precision: Path | None, threads: int) -> dict[str, dict[str, Any]]:
    """The model's main metric on a labelled file: {"packed": …} and, with the parent's folder, {"full precision": …}.

    Each is {"metric", "value", "rows"}. Over-long texts are cut, as by `bebert eval --truncate`. Raises what reading
    the file and the folder raise.
    """
    from bebert_infer.ensemble import Ensemble

    reports = load_export("evaluate")
    ensemble = Ensemble.from_pretrained(model, threads=threads)
    task = reports.task_of(None, ensemble.config)
    examples = reports.examples_of(data, ensemble.config, task)
    encoded = ensemble.encode(reports.texts_of(examples), truncate=True)
    logits = None
    if full_precision is not None:
        assert ensemble.config.tokenizer is not None  # encode() took texts
        length, labels = ensemble.config.tokenizer.max_length, list(ensemble.config.labels)
        module = load_export("peers.classifier")
        logits = module.full_precision_logits(
            full_precision, examples, labels, ensemble.config.problem_type, length, threads
        )
    figures = reports.report(ensemble, examples, encoded, logits, None, task)
    metric = figures["main_metric"]
    answers = {"packed": figures["ensembles"][ensemble.config.combination][-1]}
    if logits is not None:
        answers["full precision"] = figures["full_precision"]
    return {
        name: {"metric": metric, "value": entry["metrics"][metric]["value"], "rows": len(examples)}
        for name, entry in answers.items()
    }
