"""`bebert convert`: published checkpoints to a packed model; the work is in `bebert_export.convert`."""

import time
from pathlib import Path
from typing import Any

import click

from bebert_infer.cli.options import path, word_list
from bebert_infer.cli.usage import argument, command, option
from bebert_infer.console import plain, stdout_console, wide_console
from bebert_infer.errors import InputError
from bebert_infer.optional import load_export


@command()
@argument(
    "checkpoints",
    type=path,
    nargs=-1,
    required=True,
    help="Folders or files of published checkpoints; several make one ensemble.",
)
@option("--out", type=path, required=True, help="Folder to write.")
@option("--alphas", help="Weights of the members: 0.6,0.4")
@option("--combine", help="vote, logits, probabilities; regression: mean, median.")
@option("--tokenizer", type=path, help="Folder with vocab.txt or tokenizer.json.")
@option("--labels", help="Label names: negative,positive")
@option("--max-length", type=click.IntRange(min=1), help="Token limit for texts.")
@option("--licence", help="For the model card: one of the hub's licences, like apache-2.0, or any text.")
@option("--languages", help="For the model card, languages of the texts: en or en,de.")
@option("--base-models", help="For the model card, names on the hub of the models that it was made of.")
@option("--datasets", help="For the model card, names on the hub of the data that it was trained on.")
@option("--example", help="For the model card, a text to try the model with.")
@option(
    "--memory-limit",
    type=click.IntRange(min=1),
    envvar="BEBERT_PICKLE_MEMORY",
    help="MiB that reading a pickle may take. Default: 4 times the file and 512 more.",
)
@option(
    "--time-limit",
    type=click.IntRange(min=1),
    envvar="BEBERT_PICKLE_SECONDS",
    default=120,
    help="Seconds of CPU time for reading a pickle.",
)
def convert(
    checkpoints: tuple[Path, ...],
    out: Path,
    alphas: str | None,
    combine: str | None,
    tokenizer: Path | None,
    labels: str | None,
    max_length: int | None,
    licence: str | None,
    languages: str | None,
    base_models: str | None,
    datasets: str | None,
    example: str | None,
    memory_limit: int | None,
    time_limit: int,
) -> None:
    """Convert published checkpoints (BinaryBERT, BEBERT, BiBERT, BiT, TernaryBERT) to one packed model.

    Pickles (.bin) are read without running their code, in a process of its own with limits on memory and time.
    The packed engine is compared with the PyTorch graph, code by code,
    and nothing is written unless they agree.
    """
    module = load_export("convert")
    lists = (word_list(text) for text in (languages, base_models, datasets))
    facts = load_export("pack.card_metadata").CardFacts(licence, *lists, example)
    started = time.perf_counter()
    with stdout_console().status("reading, packing and checking"):
        converted = module.convert(
            list(checkpoints),
            out,
            alphas=None if alphas is None else _numbers(alphas),
            combination=combine,
            tokenizer=tokenizer,
            labels=None if labels is None else [label.strip() for label in labels.split(",")],
            max_length=max_length,
            limits=load_export("checkpoints.untrusted_pickle").ProcessLimits(memory_limit, time_limit),
            facts=facts,
        )
    _print_conversion(converted, out, time.perf_counter() - started)


def _print_conversion(converted: Any, out: Path, seconds: float) -> None:
    from rich.table import Table

    console = stdout_console()
    config, parity = converted.written.config, converted.written.parity
    table = Table("member", "family", "hidden × attention × FFN", "layers", "bits W-E-A", "ignored keys")
    for index, (member, checkpoint) in enumerate(zip(config.members, converted.checkpoints, strict=True)):
        width = f"{member.hidden_size} × {member.attention_size} × {member.intermediate_size}"
        table.add_row(
            str(index),
            f"{member.family}, {member.branches} branch{'es' if member.branches > 1 else ''}",
            width,
            str(member.num_hidden_layers),
            member.scheme,
            str(len(checkpoint.ignored)),
        )
    wide_console().print(table)
    console.print(
        f"parity: {parity.codes:,} codes over {parity.tokens} tokens; {parity.near_threshold:,} values lie within "
        f"float rounding of a threshold, where either code is right, and {parity.flips:,} of them got the other code "
        f"than in PyTorch; hidden states within {parity.max_hidden_difference:.1e}, logits within "
        f"{parity.max_logit_difference:.1e}; the engine's logits are the reference's, bit for bit"
    )
    if converted.written.zeros:
        console.print(f"{converted.written.zeros:,} weights were exactly 0 and are stored as +1")
    text = "text and token ids" if config.tokenizer else "token ids only (add text with --tokenizer)"
    console.print(
        f"{config.tensors_bytes:,} bytes in {plain(str(out))}, combined by {config.combination}; takes {text}; "
        f"{seconds:.1f} s",
        soft_wrap=True,
    )


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f'--alphas is "{text}"; accepted are numbers with commas, like 0.6,0.4') from None
