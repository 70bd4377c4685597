"""`bebert demo`: the small ensemble in this package classifies real sentences, with its size, speed and accuracy."""

import time
from typing import TYPE_CHECKING

from bebert_infer.cli.options import threads
from bebert_infer.cli.usage import command
from bebert_infer.console import stdout_console
from bebert_infer.errors import safe

if TYPE_CHECKING:  # what loads Numba is imported when the command is called
    from rich.console import Console

    from bebert_infer.ensemble import Ensemble

# Drawn at random from sentences of 8 to 16 words of the test split of "From Group to Individual Labels using Deep
# Features" (Kotzias et al., KDD 2015), CC BY 4.0, with the label that people gave them; no training saw them.
SENTENCES = (
    ("I've missed numerous calls because of this reason.", "negative"),
    ("The flat reenactments don't hold your attention because they are emotionally adrift and stagy.", "negative"),
    ("The story is lame, not interesting and NEVER really explains the sinister origins of the puppets.", "negative"),
    ("Characters are one-dimensional, even the good guys and especially the bad guys.", "negative"),
    ("Now the pizza itself was good the peanut sauce was very tasty.", "positive"),
    ("But I definitely would not eat here again.", "negative"),
)


@command()
@threads
def demo(threads: int | None) -> None:
    """Classify real sentences with the small ensemble that comes with this package."""
    from rich.markup import escape
    from rich.table import Table

    from bebert_infer.ensemble import Ensemble
    from bebert_infer.measure.sample_models import demo_path

    console = stdout_console()
    with console.status("loading the model; the first run on a machine also compiles the kernels"):
        model = Ensemble.from_pretrained(demo_path(), threads=threads)
        model.predict([SENTENCES[0][0]])
    table = Table("sentence", "people say", "answer, confidence", "votes, member 0 first", show_lines=True)
    milliseconds = []
    for sentence, label in SENTENCES:
        started = time.perf_counter()
        (answer,) = model.predict([sentence])
        milliseconds.append(1e3 * (time.perf_counter() - started))
        votes = "\n".join(str(vote) for vote in answer.votes)
        table.add_row(escape(sentence), label, f"{answer.label} {answer.score:.2f}", votes)
    console.print(table)
    _print_facts(console, model, sorted(milliseconds)[len(milliseconds) // 2])
    console.print("\nThe same in Python:\n", style="bold")
    console.print("    from bebert_infer import Ensemble", highlight=False)
    call = f'    Ensemble.from_pretrained("{demo_path()}")("{SENTENCES[0][0]}")\n'
    console.print(escape(safe(call)), soft_wrap=True, highlight=False)


def _print_facts(console: "Console", model: "Ensemble", median: float) -> None:
    from rich.table import Table

    from bebert_infer.measure.cost import full_precision_bytes

    config = model.config
    size, parent = config.tensors_bytes, full_precision_bytes(config.members[0], config)
    facts = Table(show_header=False, box=None)
    facts.add_row(
        "size",
        f"{size / 1e6:.2f} MB for {len(model.alphas)} members; one full-precision parent {parent / 1e6:.2f} MB",
    )
    facts.add_row(
        "latency", f"{median:.2f} ms, median of {len(SENTENCES)}, tokenizer included, {model.threads} threads"
    )
    alphas = ", ".join(f"{alpha:.2f}" for alpha in model.alphas)
    facts.add_row("ensemble", f"{config.combination}, weighted by alpha {alphas}")
    scores = config.evidence["dev"]
    members = ", ".join(f"{member['accuracy']:.1%}" for member in scores["members"])
    ensemble = scores["ensemble"][config.combination]["accuracy"]
    facts.add_row(
        "accuracy",
        f"ensemble {ensemble:.1%}; members {members}; full precision {scores['full_precision']['accuracy']:.1%}",
    )
    held_out = config.evidence["data"]["dev"]
    facts.add_row(
        "", f"on {held_out['rows']} held-out rows of {held_out['file']}, never used for choosing (see the card)"
    )
    console.print(facts)
