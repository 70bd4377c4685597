"""`bebert eval`: options and tables of an evaluation; the figures are made in `bebert_export.evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bebert_infer.atomic_files import check_target, write_json, writing
from bebert_infer.cli.options import model, path, threads
from bebert_infer.cli.usage import argument, command, option
from bebert_infer.console import plain, stderr_console, wide_console
from bebert_infer.errors import DataError, InputError
from bebert_infer.optional import load_export

if TYPE_CHECKING:  # what loads Numba is imported when the command is called
    from rich.table import Table

    from bebert_infer.ensemble import Ensemble
    from bebert_infer.text.tokenizer import EncodedBatch


@command("eval")
@model
@argument(
    "data",
    type=path,
    required=False,
    help=".tsv, .csv, .jsonl or .parquet with the columns sentence1[, sentence2], label. Default: the dev split of "
    "--task.",
)
@option(
    "--task",
    help="GLUE task, whose main metric comes first: cola, sst2, mrpc, stsb, qqp, mnli, mnli-mismatched, qnli, rte. "
    "Default: the task the model was trained for.",
)
@option("--noise", help="Sigmas of noise after the embeddings; BEBERT: 0.1 (paper), 0.01 (code).")
@option("--seeds", type=click.IntRange(min=2), default=10, help="Runs for each sigma.")
@option("--full-precision", type=path, help="Folder of a full-precision classifier to compare with.")
@option("--resamples", type=click.IntRange(min=100), default=1000, help="Bootstrap resamples of the examples.")
@option("--bootstrap-seed", type=click.IntRange(min=0), default=0, help="Seed of the resamples.")
@option("--json", type=path, help="Write all figures to this .json.")
@option("--plots", type=path, help="Draw them into this folder.")
@option("--truncate/--no-truncate", default=False, help="Cut over-long texts instead of refusing them.")
@threads
def evaluate(
    model: str,
    data: Path | None,
    task: str | None,
    noise: str | None,
    seeds: int,
    full_precision: Path | None,
    resamples: int,
    bootstrap_seed: int,
    json: Path | None,
    plots: Path | None,
    truncate: bool,
    threads: int | None,
) -> None:
    r"""Score members and ensembles on a labelled file: metrics with intervals, calibration, agreement, noise.

    \b
    bebert eval model/ dev.tsv
    bebert eval model/ --task mnli-mismatched
    bebert eval model/ dev.tsv --noise 0.1,0.01 --seeds 10 --json figures.json --plots figures/
    """
    if data is None and task is None:
        raise InputError("pass a labelled file, or --task NAME for the dev split of a GLUE task")
    sigmas = [] if noise is None else _sigmas(noise)
    _check_targets(json, plots)
    reports = load_export("evaluate")
    pictures = load_export("evaluation.plots") if plots is not None else None  # now, not after minutes of work

    from bebert_infer.ensemble import Ensemble

    ensemble = Ensemble.from_pretrained(model, threads=threads)
    known = reports.task_of(task, ensemble.config)
    file = load_export("data.glue").data_file(data, known if task else None, "dev")
    examples = reports.examples_of(file, ensemble.config, known)
    encoded = _encoded(ensemble, examples, reports.texts_of(examples), truncate)
    logits = None
    if full_precision is not None:
        module = load_export("peers.classifier")
        with stderr_console().status("full precision, in PyTorch"):
            assert ensemble.config.tokenizer is not None  # encode() took texts
            length, labels = ensemble.config.tokenizer.max_length, list(ensemble.config.labels)
            problem = ensemble.config.problem_type
            logits = module.full_precision_logits(full_precision, examples, labels, problem, length, ensemble.threads)
    with stderr_console().status(f"{len(examples):,} examples, {len(ensemble.alphas)} members"):
        bootstrap = reports.Bootstrap(resamples, bootstrap_seed)
        figures = reports.report(ensemble, examples, encoded, logits, bootstrap, known)
    figures["noise"] = []
    for sigma in sigmas:
        with stderr_console().status(f"noise of sigma {sigma:g}, {seeds} seeds"):
            figures["noise"].append(reports.noise_report(ensemble, examples, encoded, sigma, seeds))
    console = wide_console()
    kept: list[str] = []
    try:
        for part in _tables(figures):
            console.print(part)
    finally:  # where standard output is full or nobody reads it, minutes of work are kept all the same
        if json is not None:
            with writing(json):
                write_json(json, figures)
            kept.append(f"all figures in {plain(str(json))}")
        if pictures is not None and plots is not None:
            with writing(plots):
                written = pictures.save_plots(figures, plots)
            kept.append(f"{', '.join(file.name for file in written)} in {plain(str(plots))}")
    for line in kept:
        console.print(line, highlight=False, soft_wrap=True)


def _sigmas(text: str) -> list[float]:
    from bebert_infer.model.noise import MAX_SIGMA

    try:
        sigmas = [float(part) for part in text.split(",")]
    except ValueError:
        sigmas = []
    if not sigmas or not all(0 <= sigma <= MAX_SIGMA for sigma in sigmas):
        accepted = f"sigmas of at least 0 and at most {MAX_SIGMA:g} with commas, like 0.1,0.01"
        raise InputError(f'--noise is "{text}"; accepted are {accepted}')
    return sigmas


def _check_targets(json: Path | None, plots: Path | None) -> None:
    """What cannot be written is told before minutes of work."""
    if json is not None:
        if json.suffix != ".json" or json.is_dir() or not json.parent.is_dir():
            raise InputError(f'--json is "{json}"; accepted is a file ending in .json in a folder that exists')
        check_target(json.parent, "--json", json)
    if plots is not None:
        if plots.exists() and not plots.is_dir():
            raise InputError(f'--plots is "{plots}", which is a file; pass a folder')
        check_target(plots, "--plots", plots)


def _encoded(ensemble: "Ensemble", examples: Any, texts: list[Any], truncate: bool) -> "EncodedBatch":
    """Token ids of all texts. Raises InputError with the place of one that is too long, unless it may be cut."""
    from bebert_infer.text.tokenizer import collate
    from bebert_infer.text.windows import LongTexts

    windows = []
    for index, text in enumerate(texts):
        row = ensemble.encode_text(text, LongTexts("truncate"), f"the text in {examples.place(index)}")
        (window,) = row.windows
        if row.cut and not truncate:
            length = len(window[0])
            raise DataError(
                f"the text in {examples.place(index)} has {length + row.cut} tokens; this model accepts at most "
                f"{length}: shorten it, or cut the end of all such texts off with --truncate"
            )
        windows.append(window)
    return collate(windows)


def _tables(figures: dict[str, Any]) -> "list[Table | str]":
    data = figures["data"]
    parts: list[Table | str] = [
        f"{plain(data['file'])}, {data['rows']:,} rows: {plain(data['split'])}",
        _scores(figures),
    ]
    if "agreement" in figures and len(figures["members"]) > 1:
        parts.append(_agreement(figures["agreement"]))
    if "early_exit" in figures:
        parts.append(_early_exit(figures))
    if figures["noise"]:
        parts.append(_noise(figures))
    return parts


def _scores(figures: dict[str, Any]) -> "Table":
    """One line a model; brackets hold the bootstrap interval."""
    from rich.table import Column, Table

    names = list(figures["members"][0]["metrics"])  # the main one first
    classes = "calibration" in figures["members"][0]
    main = figures["main_metric"].replace("_", " ")
    level, resamples = figures["bootstrap"]["level"], figures["bootstrap"]["resamples"]
    intervals = f"{level:.0%} intervals from {resamples:,} bootstrap resamples of the examples"
    table = Table(Column(overflow="fold"), title=f"packed engine; main metric: {main}; {intervals}")
    for name in [*(name.replace("_", " ") for name in names), *(["calibration error"] if classes else [])]:
        table.add_column(name, justify="right", overflow="fold")
    rows = {"full precision (PyTorch)": figures["full_precision"]} if "full_precision" in figures else {}
    rows |= {
        f"member {index}, alpha {alpha:.3f}": entry
        for index, (entry, alpha) in enumerate(zip(figures["members"], figures["alphas"], strict=True))
    }
    for rule, entries in figures["ensembles"].items():
        for count, entry in enumerate(entries, 1):
            chosen = rule == figures["combination"] and count == len(entries)
            rows[f"first {count} by {rule}" + (" (the model)" if chosen else "")] = entry
    for name, entry in rows.items():
        if "undefined" in entry:
            table.add_row(name, "undefined")
            continue
        cells = [f"{m['value']:.4f} \\[{m['low']:.3f}, {m['high']:.3f}]" for m in entry["metrics"].values()]
        table.add_row(name, *cells, *([f"{entry['calibration']['ece']:.4f}"] if classes else []))
    return table


def _agreement(shares: list[list[float]]) -> "Table":
    from rich.table import Table

    table = Table("member", title="share of answers on which two members say the same")
    for index in range(len(shares)):
        table.add_column(str(index), justify="right")
    for index, row in enumerate(shares):
        table.add_row(str(index), *(f"{share:.4f}" for share in row))
    return table


def _early_exit(figures: dict[str, Any]) -> "Table":
    """Members run against the main metric, for the end that changes no label and for thresholds."""
    from rich.table import Table

    metric = figures["main_metric"]
    table = Table("early exit", title=f"members that speak until the answer is settled, by {figures['combination']}")
    for heading in ("members run", metric.replace("_", " "), "labels changed"):
        table.add_column(heading, justify="right")
    for row in figures["early_exit"]:
        name = "none: all members" if row["early_exit"] is None else str(row["early_exit"])
        table.add_row(name, f"{row['mean_members']:.3f}", f"{row['metrics'][metric]:.4f}", f"{row['labels_changed']:,}")
    return table


def _noise(figures: dict[str, Any]) -> "Table":
    """Mean ± sample standard deviation over the seeds of the main metric, beside the value without noise."""
    from rich.table import Column, Table

    metric = figures["main_metric"]
    seeds = len(figures["noise"][0]["seeds"])
    noise = f"Gaussian noise after the embeddings, mean ± standard deviation of {seeds} seeds"
    table = Table(Column(overflow="fold"), title=f"{metric.replace('_', ' ')} with {noise}")
    for heading in ("no noise", *(f"sigma {level['sigma']:g}" for level in figures["noise"])):
        table.add_column(heading, justify="right", overflow="fold")

    def line(name: str, entry: dict[str, Any], runs: list[dict[str, Any]]) -> None:
        if "undefined" in entry:
            table.add_row(name, *["undefined"] * (1 + len(runs)))
            return
        cells = [f"{run[metric]['mean']:.4f} ± {run[metric]['std']:.4f}" for run in runs]
        table.add_row(name, f"{entry['metrics'][metric]['value']:.4f}", *cells)

    for index, entry in enumerate(figures["members"]):
        line(f"member {index}", entry, [level["members"][index] for level in figures["noise"]])
    for rule, entries in figures["ensembles"].items():
        for count, entry in enumerate(entries, 1):
            line(f"first {count} by {rule}", entry, [level["ensembles"][rule][count - 1] for level in figures["noise"]])
    return table
