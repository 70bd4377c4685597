"""`bebert train`: the options of a training run; the work is in `bebert_export.train`, loaded when called."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bebert_infer.errors import InputError
from bebert_infer.optional import load_export


def _read_recipe(context: typer.Context, recipe: str | None) -> str | None:
    """Options of a TOML file as defaults of this call: what the command line says comes first."""
    if recipe is None:
        return None
    try:
        values = tomllib.loads(load_export("recipes").find_recipe(recipe).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{recipe} cannot be read: {error}") from None
    known = {parameter.name for parameter in context.command.params} - {"recipe", "list_recipes", "help"}
    values = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{recipe} has {', '.join(unknown)}; accepted are {', '.join(sorted(known))}")
    # A list of TOML is what the command line writes with commas.
    lists = {key: ",".join(map(str, value)) for key, value in values.items() if isinstance(value, list)}
    context.default_map = values | lists
    return recipe


def _list_recipes(wanted: bool) -> None:
    """Print name and first line of every recipe that comes along, and leave."""
    if wanted:
        for name, file in load_export("recipes").shipped_recipes().items():
            typer.echo(f"{name:<6} {file.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        raise typer.Exit


def train(
    init: Annotated[str, typer.Option(help="Pretrained BERT encoder: a folder or a hub id.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Run folder; called again, the run resumes.", show_default=False)],
    train: Annotated[
        Path | None,
        typer.Option(
            help=".tsv, .csv, .jsonl or .parquet with the columns sentence1[, sentence2], label.", show_default=False
        ),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="The same, for the report; never used for choosing.", show_default=False)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli or rte. Gives metrics, label names, regression, "
            "and the data too unless --train and --dev say where it is.",
            show_default=False,
        ),
    ] = None,
    scheme: Annotated[str, typer.Option(help="Bits of weights-embeddings-activations: 1-1-4 or 1-1-1.")] = "1-1-4",
    members: Annotated[
        int,
        typer.Option(help="Boosting rounds; a finished run called with more adds them. 0: full precision only."),
    ] = 2,
    base: Annotated[
        str | None, typer.Option(help="binarybert (1-1-4), bibert (1-1-1) or bit (both).", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Options of a TOML file, or of a recipe that comes along, like cola; the command line comes first.",
            show_default=False,
            is_eager=True,
            callback=_read_recipe,
        ),
    ] = None,
    list_recipes: Annotated[
        bool,
        typer.Option("--list-recipes", help="Say which recipes come along.", is_eager=True, callback=_list_recipes),
    ] = False,
    labels: Annotated[
        str | None, typer.Option(help="Names for the label values, in sorted order.", show_default=False)
    ] = None,
    regression: Annotated[bool, typer.Option(help="Labels are scores.")] = False,
    combine: Annotated[str | None, typer.Option(help="Rule of the ensemble.", show_default=False)] = None,
    hold_out: Annotated[
        float, typer.Option(help="Share of the training file kept for alphas and other choices, not trained on.")
    ] = 0.1,
    boosting: Annotated[
        str, typer.Option(help="weights (in the loss), resample, or bagging (the baseline).")
    ] = "weights",
    shrinkage: Annotated[
        float, typer.Option(help="Factor of alphas, up to 1; the smaller, the more evenly members count.")
    ] = 1.0,
    warm_start: Annotated[
        str,
        typer.Option(help="Members start from the first student: first; the member before: previous; one each: own."),
    ] = "first",
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Run folder of a larger task: students go on from its first student. Same base, scheme, steps and "
            "width; --init is its full_precision/.",
            show_default=False,
        ),
    ] = None,
    compat: Annotated[
        str | None, typer.Option(help="published: alphas and hard vote of BEBERT's own code.", show_default=False)
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            help="Activation bits of students to train in between, widest first, as in 2 (BiT) or 4,2,1; each starts "
            "and learns from the one before. Not for binarybert.",
            show_default=False,
        ),
    ] = None,
    distill: Annotated[
        str,
        typer.Option(
            help="How members learn: none (labels only: BEBERT), or from full precision (with --steps from the last of "
            "those) by prediction, hidden (BiT), two-stage (BinaryBERT) or direction (BiBERT)."
        ),
    ] = "none",
    start_distill: Annotated[
        str | None,
        typer.Option(
            help="How students before the members learn: ternary (default as --distill), of --steps (default hidden).",
            show_default=False,
        ),
    ] = None,
    width: Annotated[float, typer.Option(help="Share of heads and neurons to keep; BinaryBERT: 0.5.")] = 1.0,
    vocabulary_size: Annotated[
        int | None, typer.Option(help="Keep only so many word pieces, and --max-length positions.", show_default=False)
    ] = None,
    max_length: Annotated[int, typer.Option(help="Tokens a text may have.")] = 128,
    epochs: Annotated[float, typer.Option(help="Epochs of each member.")] = 3.0,
    start_epochs: Annotated[
        float, typer.Option(help="Epochs of each student before the members: ternary, or of --steps.")
    ] = 3.0,
    teacher_epochs: Annotated[
        float, typer.Option(help="Of the full-precision model; 0: --init is fine-tuned already.")
    ] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of all students.")] = 2e-4,
    teacher_learning_rate: Annotated[float, typer.Option(help="Of the full-precision model.")] = 5e-5,
    dropout: Annotated[float, typer.Option(help="Dropout of every stage.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same model.")] = 42,
    patience: Annotated[
        int, typer.Option(help="Early stopping: evaluations of the held-out part without progress; 0: off.")
    ] = 0,
    precision: Annotated[
        str, typer.Option(help="Of training: float32, bfloat16, or auto (bfloat16 where it is faster).")
    ] = "auto",
    budget_minutes: Annotated[
        float | None,
        typer.Option(
            help="Fewer epochs in all stages, by one factor, so that the run ends in time.", show_default=False
        ),
    ] = None,
    snapshot_minutes: Annotated[
        float, typer.Option(help="Between snapshots of the running stage, to resume from after a kill; 0: none.")
    ] = 5.0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write OUT/tensorboard too.")] = False,
    threads: Annotated[int | None, typer.Option(help="Thread budget.", show_default=False)] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of data and model, for the model card.", show_default=False)
    ] = None,
) -> None:
    """Train an ensemble: fine-tune full precision, make binary members, boost, pack, evaluate on packed bits.

    [dim]bebert train --init prajjwal1/bert-tiny --train train.tsv --dev dev.tsv --members 3 --out runs/mine[/]
    [dim]bebert train --init prajjwal1/bert-tiny --task sst2 --out runs/sst2[/]
    [dim]bebert train --init prajjwal1/bert-tiny --recipe cola --out runs/cola[/]

    Small encoders learn pairs of texts (rte, mrpc, stsb) far better after a larger task of pairs, and so do students:

    [dim]bebert train --init prajjwal1/bert-tiny --task mnli --members 1 --out runs/mnli[/]
    [dim]bebert train --init runs/mnli/full_precision --start-from runs/mnli --task rte --out runs/rte[/]

    With --members 0 the first makes no more than the full-precision model.

    A GPU is used if there is one. Several GPUs, or processes on CPUs, each take a part of every batch:

    [dim]accelerate launch --multi_gpu --num_processes 2 -m bebert_infer train --init …[/]

    [dim]torchrun --standalone --nproc-per-node 2 -m bebert_infer train --init …[/]
    """
    values = dict(locals())
    del values["recipe"], values["list_recipes"]
    values["labels"] = None if labels is None else tuple(label.strip() for label in labels.split(","))
    values["steps"] = _bits(steps or "")
    module = load_export("train", extra="train")
    console = Console(quiet=not module.is_main())
    options = module.TrainOptions(**values)
    if not members:
        scores = module.train_full_precision(options, console)["dev"]
        console.print(", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items()))
        place = out / "full_precision"
        console.print(
            f"full precision only, in {place}: an --init of other runs; the same with --members goes on in {out}"
        )
        return
    results = module.train(options, console)
    console.print(_table(results))
    console.print(f"model in {out / 'model'}, all figures in {out / 'results.json'}")


def _bits(text: str) -> tuple[int, ...]:
    """Whole numbers of a comma list. Raises InputError."""
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise InputError(f'steps is "{text}"; accepted are numbers of bits, as in 2 or 4,2') from None


def _table(results: dict[str, Any]) -> Table:
    """Scores of full precision, members and ensemble on the dev split, as `results.json` holds them."""
    scores = results["dev"]
    rows = {"full precision": scores["full_precision"]}
    rows |= {stage.replace("_", " "): facts["dev"] for stage, facts in results["students"].items()}
    for index, (metrics, facts) in enumerate(zip(scores["members"], results["members"], strict=True)):
        rows[f"member {index}, alpha {facts['alpha']:.3f}"] = metrics
    for rule, metrics in scores["ensemble"].items():
        rows[f"ensemble by {rule}" + (" (the model)" if rule == results["combination"] else "")] = metrics
    names = list(scores["full_precision"])
    main = scores["main_metric"].replace("_", " ")
    title = f"dev split, {scores['rows']:,} rows, packed engine; main metric: {main}"
    table = Table("", *(name.replace("_", " ") for name in names), title=title)
    for name, metrics in rows.items():
        table.add_row(name, *(f"{metrics[metric]:.4f}" for metric in names))
    return table
