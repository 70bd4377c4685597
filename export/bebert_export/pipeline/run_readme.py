"""README.md of a run folder: what another person needs to understand it, go on with it and use it."""

from pathlib import Path
from typing import Any

from bebert_export.atomic_writes import write_atomically

TEXT = """# A training run of bebert-infer

    {command}

{state}

| file | what it is |
|---|---|
| `options.json` | every option that decides the result, and the sha256 of the data files |
| `log.jsonl` | one JSON object a line: time, stage, step, loss, learning rate, examples/s, scores, facts of stages |
| `tensorboard/` | the same figures, with `--tensorboard`: `tensorboard --logdir` this folder |
| `full_precision/` | the fine-tuned encoder and its tokenizer, Hugging Face layout |
| `stages/<stage>.safetensors` | a finished stage: weights, predictions, boosting weights, facts (in the metadata) |
| `stages/.running-*` | snapshots of the stage that runs; only there while one does, or after a kill |
| `model/` | the packed ensemble, with a model card of its own |
| `results.json` | options, data, scores of everything on the dev split, times, sizes, versions |

Resume: run the same command again with this folder as `--out`. Finished stages are read, the running one goes on from
its snapshot, and the result is the same as without the interruption. Once `model/` is there, everything else may be
deleted, if nobody wants to train more members, to start other runs from this one, or to look things up.

Use:

    bebert predict model/ "a text"
    bebert inspect model/

    from bebert_infer import Ensemble
    Ensemble.from_pretrained("model/")(["a text"])
"""
ALONE = "Full precision only, an `--init` for other runs. The same command with more `--members` makes the rest."


def write_readme(folder: Path, command: str, results: dict[str, Any] | None, *, alone: bool = False) -> None:
    """Write <folder>/README.md: at the start with results None, at the end with what `results.json` holds.

    alone : full precision is all that was asked for, and it is there
    """
    text = TEXT.format(command=command, state=ALONE if alone else _state(results))
    write_atomically(folder / "README.md", lambda temporary: temporary.write_text(text, "utf-8"))


def _state(results: dict[str, Any] | None) -> str:
    if not results:
        return "Not finished: `results.json` and `model/` are still missing. `log.jsonl` says how far it is."
    dev, rule = results["dev"], results["combination"]
    name = next(iter(dev["full_precision"]))
    full, ensemble = dev["full_precision"][name], dev["ensemble"][rule][name]
    members, asked = len(results["members"]), results["options"]["members"]
    early = f" of {asked} (the last one makes no error, or the next one only guessed)" if members < asked else ""
    return (
        f"Finished: {members} members{early}, combined by {rule}. On {dev['rows']:,} rows of "
        f"`{results['data']['dev']['file']}` the ensemble has {name.replace('_', ' ')} {ensemble:.4f}, full precision "
        f"{full:.4f}. Training took {results['seconds']['training']:,.0f} seconds."
    )
