"""`bebert augment`: its options are those of `AugmentOptions`; the work is in `bebert_export.augment`."""

from typing import Any

from bebert_infer.cli.options import options_of
from bebert_infer.cli.usage import command
from bebert_infer.console import plain, stdout_console
from bebert_infer.optional import load_export

Options = load_export("augmentation.options").AugmentOptions  # without torch


@command()
@options_of(Options)
def augment(**values: Any) -> None:
    r"""Make more training rows by replacing words (TinyBERT's procedure), each row followed by its versions.

    TinyBERT drew 30 copies for CoLA, MRPC, STS-B and RTE, 20 for SST-2 and QNLI, 10 for MNLI and QQP.

    \b
    bebert augment --data train.tsv --masked-lm bert-base-uncased --word-vectors glove.txt --out more.tsv
    """
    options, console = Options(**values), stdout_console()
    done = load_export("augment").augment_file(options, console)
    cache = f"candidates in {done.cache}, {done.found:,} of them from before; another seed can use them again"
    for line in (f"{done.rows:,} rows from {done.examples:,} in {options.out}", cache):
        console.print(plain(line), soft_wrap=True)
