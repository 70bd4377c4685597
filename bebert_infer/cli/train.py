"""`bebert train`: its options are those of `TrainOptions`; the work is in `bebert_export.train`, loaded when called."""

import tomllib
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bebert_infer.cli.options import listed, options_of
from bebert_infer.errors import InputError
from bebert_infer.optional import load_export

Options = load_export("pipeline.options").TrainOptions  # without torch


def _read_recipe(context: typer.Context, recipe: str | None) -> str | None:
    """Options of a TOML file as defaults of this call: what the command line says comes first."""
    if recipe is None:
        return None
    try:
        values = tomllib.loads(load_export("recipes").find_recipe(recipe).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{recipe} cannot be read: {error}") from None
    known = {str(parameter.name) for parameter in context.command.params} - {"recipe", "list_recipes", "help"}
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


@options_of(Options, tensorboard="--tensorboard")
def train(
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
    **values: Any,
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
    options = Options(**listed(Options, values))
    module = load_export("train", extra="train")
    console = Console(quiet=not module.is_main())
    out = options.out
    if not options.members:
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
