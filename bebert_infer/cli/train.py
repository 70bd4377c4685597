"""`bebert train`: its options are those of `TrainOptions`; the work is in `bebert_export.train`, loaded when called."""

import tomllib
from typing import TYPE_CHECKING, Any

import click

from bebert_infer.cli.options import listed, options_of
from bebert_infer.cli.usage import command, option
from bebert_infer.errors import InputError
from bebert_infer.optional import load_export

if TYPE_CHECKING:
    from rich.table import Table

Options = load_export("pipeline.options").TrainOptions  # without torch


def _read_recipe(context: click.Context, parameter: click.Parameter, recipe: str | None) -> None:
    """Options of a TOML file as defaults of this call: what the command line says comes first."""
    if recipe is None:
        return
    try:
        values = tomllib.loads(load_export("recipes").find_recipe(recipe).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{recipe} cannot be read: {error}") from None
    known = {parameter.name for parameter in context.command.params} - {"recipe", "list_recipes"}
    values = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{recipe} has {', '.join(unknown)}; accepted are {', '.join(sorted(known))}")
    context.default_map = {key: _as_written(value) for key, value in values.items()}


def _as_written(value: Any) -> Any:
    """A value of TOML as on the command line: lists with commas, and 2.5 is no whole number (to `int` it would be)."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, bool) else str(value)


def _list_recipes(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """Print name and first line of every recipe that comes along, and leave."""
    if wanted:
        for name, file in load_export("recipes").shipped_recipes().items():
            click.echo(f"{name:<6} {file.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        context.exit()


@command()
@option(
    "--recipe",
    is_eager=True,
    expose_value=False,
    callback=_read_recipe,
    help="Options of a TOML file, or of a recipe that comes along, like cola; the command line comes first.",
)
@option(
    "--list-recipes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_recipes,
    help="Say which recipes come along.",
)
@options_of(Options, tensorboard="--tensorboard")
def train(**values: Any) -> None:
    r"""Train an ensemble: fine-tune full precision, make binary members, boost, pack, evaluate on packed bits.

    \b
    bebert train --init prajjwal1/bert-tiny --train train.tsv --dev dev.tsv --members 3 --out runs/mine
    bebert train --init prajjwal1/bert-tiny --task sst2 --out runs/sst2
    bebert train --init prajjwal1/bert-tiny --recipe cola --out runs/cola

    Small encoders learn pairs of texts (rte, mrpc, stsb) far better after a larger task of pairs, and so do students:

    \b
    bebert train --init prajjwal1/bert-tiny --task mnli --members 1 --out runs/mnli
    bebert train --init runs/mnli/full_precision --start-from runs/mnli --task rte --out runs/rte

    With --members 0 the first makes no more than the full-precision model.

    A GPU is used if there is one. Several GPUs, or processes on CPUs, each take a part of every batch:

    \b
    accelerate launch --multi_gpu --num_processes 2 -m bebert_infer train --init …
    torchrun --standalone --nproc-per-node 2 -m bebert_infer train --init …
    """
    options = Options(**listed(Options, values))
    module = load_export("train", extra="train")
    from rich.console import Console

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


def _table(results: dict[str, Any]) -> "Table":
    """Scores of full precision, members and ensemble on the dev split, as `results.json` holds them."""
    from rich.table import Table

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
