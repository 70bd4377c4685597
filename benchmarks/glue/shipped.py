"""Score a packed model on labelled texts, for the table of the shipped model in docs/results.md.

    python benchmarks/glue/shipped.py "SST-2 dev=SST-2/dev.tsv" "reviews=kotzias/test.tsv" --noise-on "SST-2 dev"
    python benchmarks/glue/shipped.py "reviews=kotzias/test.tsv" --full-precision runs/mine/full_precision

Each file, which needs the columns sentence1[, sentence2], label, becomes one line of results/shipped.jsonl, with the
sha256 of the model's tensors: the report shows the lines of the model that is shipped, and of each name the last. The
folder of full precision is optional, because only its run has it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts find their neighbours so

from glue.flagship import MODEL, SHIPPED
from record import RESULTS, write_record

from bebert_export.evaluate import examples_of, noise_report, report, task_of, texts_of
from bebert_export.peers.classifier import full_precision_logits
from bebert_infer import Ensemble
from bebert_infer.errors import BebertError

SIGMA = 0.1  # BEBERT, the paper: variance 0.01


def score(model: Ensemble, name: str, file: Path, full_precision: Path | None, noise_seeds: int) -> dict[str, Any]:
    """The record of one file: main metric, times 100, of members, ensemble, full precision; noise if it has seeds.

    Raises DataError for labels that the model does not have.
    """
    config = model.config
    task = task_of(None, config)
    examples = examples_of(file, config, task)
    encoded = model.encode(texts_of(examples), truncate=True)
    logits = None
    if full_precision is not None:
        assert config.tokenizer is not None  # encode() took texts
        length, labels = config.tokenizer.max_length, list(config.labels)
        logits = full_precision_logits(full_precision, examples, labels, config.problem_type, length, model.threads)
    figures = report(model, examples, encoded, logits, None, task)
    main, rule = figures["main_metric"], config.combination

    def value(entry: dict[str, Any]) -> float:
        return round(100 * entry["metrics"][main]["value"], 4)

    exits = {row["early_exit"]: row["mean_members"] for row in figures.get("early_exit", [])}
    record = {
        "tensors_sha256": config.tensors_sha256,
        "name": name,
        "data": {"file": file.name, "rows": len(examples), "sha256": examples.sha256},
        "metric": main,
        "full_precision": None if logits is None else value(figures["full_precision"]),
        "members": [value(entry) for entry in figures["members"]],
        "ensemble": value(figures["ensembles"][rule][-1]),
        "members_run_exact": exits.get("exact"),
    }
    if noise_seeds:
        level = noise_report(model, examples, encoded, SIGMA, noise_seeds)

        def deviation(entry: dict[str, Any]) -> float:
            return round(100 * entry[main]["std"], 4)

        record["noise"] = {
            "sigma": SIGMA,
            "seeds": noise_seeds,
            "members": [deviation(entry) for entry in level["members"]],
            "ensemble": deviation(level["ensembles"][rule][-1]),
        }
    return record


def main() -> None:
    """Score every file, append its line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", help="NAME=FILE, the name as it stands in the table")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: the model in this package")
    parser.add_argument("--full-precision", type=Path, help="folder of its full-precision classifier")
    parser.add_argument("--noise-on", default="", help="name of the texts that are scored under noise, too")
    parser.add_argument("--noise-seeds", type=int, default=30, help="at least 2 (default 30)")
    parser.add_argument("--threads", type=int, help="thread budget (default: all)")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"folder of {SHIPPED}.jsonl (default results/)")
    arguments = parser.parse_args()
    named = [text.partition("=") for text in arguments.texts]
    if wrong := [
        text for text, (name, equals, file) in zip(arguments.texts, named, strict=True) if not (name and file)
    ]:
        parser.error(f'texts are "{wrong[0]}"; accepted is NAME=FILE')
    if arguments.noise_on and arguments.noise_on not in [name for name, _, _ in named]:
        parser.error(f'--noise-on is "{arguments.noise_on}"; accepted is one of the names before "="')
    if arguments.noise_seeds < 2:
        parser.error("--noise-seeds must be at least 2")
    try:
        model = Ensemble.from_pretrained(arguments.model, threads=arguments.threads)
        for name, _, file in named:
            seeds = arguments.noise_seeds if name == arguments.noise_on else 0
            record = score(model, name, Path(file), arguments.full_precision, seeds)
            print(name, record["members"], record["ensemble"], record["full_precision"], record.get("noise", ""))
            print(f"record appended to {write_record(SHIPPED, record, arguments.results)}")
    except BebertError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
