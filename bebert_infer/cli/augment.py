"""`bebert augment`: the options of data augmentation; the work is in `bebert_export.augment`, loaded when called."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bebert_infer.console import plain
from bebert_infer.optional import load_export


def augment(
    data: Annotated[
        Path, typer.Option(help="Labelled .tsv, .csv, .jsonl or .parquet, as for train.", show_default=False)
    ],
    masked_lm: Annotated[
        str,
        typer.Option(help="Pretrained masked language model (WordPiece): a folder or a hub id.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(help=".tsv to write; candidates are kept beside it, and a run resumes there.", show_default=False),
    ],
    word_vectors: Annotated[
        Path | None,
        typer.Option(help="GloVe text file. Without it, words of several pieces stay as they are.", show_default=False),
    ] = None,
    copies: Annotated[int, typer.Option(help="Sentences drawn for each sentence; duplicates are dropped.")] = 20,
    probability: Annotated[float, typer.Option(help="Of replacing a word.")] = 0.4,
    candidates: Annotated[int, typer.Option(help="Words to draw from, for each word.")] = 15,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same file.")] = 42,
    max_length: Annotated[
        int, typer.Option(help="Tokens the model reads: the text twice; a window of a longer one.")
    ] = 128,
    threads: Annotated[int | None, typer.Option(help="Thread budget.", show_default=False)] = None,
) -> None:
    """Make more training rows by replacing words (TinyBERT's procedure), each row followed by its versions.

    TinyBERT drew 30 copies for CoLA, MRPC, STS-B and RTE, 20 for SST-2 and QNLI, 10 for MNLI and QQP.

    [dim]bebert augment --data train.tsv --masked-lm bert-base-uncased --word-vectors glove.txt --out more.tsv[/]
    """
    values = dict(locals())
    module = load_export("augment")
    console = Console()
    done = module.augment_file(module.AugmentOptions(**values), console)
    cache = f"candidates in {done.cache}, {done.found:,} of them from before; another seed can use them again"
    for line in (f"{done.rows:,} rows from {done.examples:,} in {out}", cache):
        console.print(plain(line), soft_wrap=True)
