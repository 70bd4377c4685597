"""All commands by name; the file of one is imported when it is called, so that none waits for what others need."""

from importlib import import_module
from typing import NamedTuple

import click


class Place(NamedTuple):
    """Where a command is, and the first sentence of its help: `bebert --help` imports none of them."""

    module: str
    function: str
    help: str


COMMANDS = {
    "inspect": Place(
        "inspect",
        "inspect",
        "Show what a model is: bits, bytes and operations by kind, and the evidence recorded at export.",
    ),
    "demo": Place("demo", "demo", "Classify real sentences with the small ensemble that comes with this package."),
    "convert": Place(
        "convert",
        "convert",
        "Convert published checkpoints (BinaryBERT, BEBERT, BiBERT, BiT, TernaryBERT) to one packed model.",
    ),
    "predict": Place("predict", "predict", "Classify texts."),
    "serve": Place(
        "serve",
        "serve",
        "Answer over HTTP, as Hugging Face's InferenceClient and Text Embeddings Inference do, with a page to try it.",
    ),
    "bench": Place(
        "bench",
        "bench",
        "Measure speed, memory, size, operations and accuracy against full precision and int8, engines in turn.",
    ),
    "train": Place(
        "train",
        "train",
        "Train an ensemble: fine-tune full precision, make binary members, boost, pack, evaluate on packed bits.",
    ),
    "augment": Place(
        "augment",
        "augment",
        "Make more training rows by replacing words (TinyBERT's procedure), each row followed by its versions.",
    ),
    "eval": Place(
        "eval",
        "evaluate",
        "Score members and ensembles on a labelled file: metrics with intervals, calibration, agreement, noise.",
    ),
    "export": Place("export", "export", "Write a packed model, or a full-precision parent, for other engines."),
    "push": Place(
        "push", "push", "Bring a model to the Hugging Face hub: all its files in one commit, checked before."
    ),
    "doctor": Place(
        "doctor",
        "doctor",
        "Show CPU, instruction sets, kernels, cache and threads, and check the kernels against plain NumPy.",
    ),
}


class Commands(click.Group):
    """The group of COMMANDS."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As the base; without arguments it is bad use, and the help says what could have been meant."""
        if not args:
            click.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a command. Raises UsageError if there is none of this name."""
        if cmd_name not in COMMANDS:
            raise click.UsageError(f'No such command "{cmd_name}"; accepted are {", ".join(COMMANDS)}', ctx)
        place = COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"bebert_infer.cli.{place.module}"), place.function)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One sentence a command, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in COMMANDS.items()])
