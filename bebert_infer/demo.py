"""`bebert demo`: the small ensemble in this package classifies real sentences, with its size, speed and accuracy."""

import time
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bebert_infer.cost import full_precision_bytes
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import ModelFormatError

# From "From Group to Individual Labels using Deep Features" (Kotzias et al., KDD 2015), CC BY 4.0.
SENTENCES = (
    "This place is great!",
    "The food was barely lukewarm, so it must have been sitting waiting for the server to bring it out to us.",
    "A very, very, very slow-moving, aimless movie about a distressed, drifting young man.",
    "It's a great phone and the battery lasts for days.",
    "The acting was bad, the dialogs were extremely shallow and insincere.",
    "I advise everyone do not be fooled!",
)


def demo_path() -> Path:
    """Return the folder of the model that is shipped in the package."""
    with as_file(files("bebert_infer") / "demo_model") as folder:
        if not (folder / "config.json").is_file():
            raise ModelFormatError("this installation lacks its demo model; install the wheel or run in a checkout")
        return folder


def run_demo(console: Console, threads: int | None = None) -> None:
    """Print answers, size, latency, recorded accuracy, and how to do the same in Python."""
    with console.status("loading the model; the first run on a machine also compiles the kernels"):
        model = Ensemble.from_pretrained(demo_path(), threads=threads)
        model.predict([SENTENCES[0]])
    table = Table("sentence", "label", "confidence", *(f"member {i}" for i in range(len(model.members))))
    milliseconds = []
    for sentence in SENTENCES:
        started = time.perf_counter()
        (answer,) = model.predict([sentence])
        milliseconds.append(1e3 * (time.perf_counter() - started))
        table.add_row(escape(sentence), answer.label, f"{answer.score:.2f}", *(str(vote) for vote in answer.votes))
    console.print(table)
    _print_facts(console, model, sorted(milliseconds)[len(milliseconds) // 2])
    console.print("\nThe same in Python:\n", style="bold")
    console.print("    from bebert_infer import Ensemble", highlight=False)
    console.print(f'    Ensemble.from_pretrained("{demo_path()}")("{SENTENCES[0]}")\n', soft_wrap=True, highlight=False)


def _print_facts(console: Console, model: Ensemble, median: float) -> None:
    config = model.config
    size, parent = config.tensors_bytes, full_precision_bytes(config.members[0], config)
    facts = Table(show_header=False, box=None)
    facts.add_row(
        "size",
        f"{size / 1e6:.2f} MB for {len(model.members)} members; one full-precision parent {parent / 1e6:.2f} MB",
    )
    facts.add_row(
        "latency", f"{median:.2f} ms, median of {len(SENTENCES)}, tokenizer included, {model.threads} threads"
    )
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
