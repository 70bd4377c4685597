"""`bebert convert`: published checkpoints in, one packed ensemble out."""

from dataclasses import dataclass
from pathlib import Path

from bebert_export.checkpoints.outputs import agree, has_tokenizer, problem_of
from bebert_export.checkpoints.published import Checkpoint, find_members, read_checkpoint
from bebert_export.checkpoints.untrusted_pickle import ProcessLimits
from bebert_export.data.batches import check_rows, load_tokenizer
from bebert_export.pack.card_metadata import CardFacts
from bebert_export.pack.write_model import Written, write_ensemble
from bebert_infer.artifact.config import check_rule
from bebert_infer.artifact.folder import check_place
from bebert_infer.artifact.tokenizer_check import check_tokenizer
from bebert_infer.atomic_files import check_target
from bebert_infer.errors import InputError


@dataclass(frozen=True)
class Converted:
    """What a conversion read and wrote."""

    checkpoints: list[Checkpoint]
    written: Written


def convert(
    sources: list[Path],
    out: Path,
    *,
    alphas: list[float] | None = None,
    combination: str | None = None,
    tokenizer: Path | None = None,
    labels: list[str] | None = None,
    max_length: int | None = None,
    limits: ProcessLimits | None = None,
    facts: CardFacts | None = None,
) -> Converted:
    """Convert one or several checkpoints to one model folder.

    alphas      : default 1 for every member
    combination : default "vote" for several members, "logits" for one, "mean" for regression
    tokenizer   : folder with vocab.txt or tokenizer.json; default the first checkpoint's folder, and if that has
                  none the model takes token ids only
    limits      : of the processes that read pickles, one after the other; default those of the environment
    labels      : default id2label of the first config, else LABEL_0, LABEL_1, …; members that name the same classes in
                  another order are put in this one
    facts       : for the model card

    Raises CheckpointError, InputError or ParityError, and ModelFormatError if `out` is taken by anything but a packed
    model; then nothing is written.
    """
    if combination is not None:
        check_rule(combination)
    _check_out(out, [*sources, *([] if tokenizer is None else [tokenizer])])
    members = [member for source in sources for member in find_members(source)]
    checkpoints = [read_checkpoint(weights, folder, limits) for weights, folder in members]
    first = checkpoints[0]
    chosen, problem = agree(checkpoints, labels), problem_of(first)
    rule = combination or ("mean" if problem == "regression" else "vote" if len(checkpoints) > 1 else "logits")
    written = write_ensemble(
        [checkpoint.student for checkpoint in checkpoints],
        out,
        alphas=alphas or [1.0] * len(checkpoints),
        combination=rule,
        labels=chosen,
        problem=problem,
        tokenizer_json=_tokenizer(tokenizer, first),
        max_length=max_length,
        evidence={"sources": [f"{c.source.parent.name}/{c.source.name}" for c in checkpoints]},
        facts=facts,
    )
    return Converted(checkpoints, written)


def _check_out(out: Path, read: list[Path]) -> None:
    """Refuse, before the work, a place that cannot be written, and one whose old content is read or is no model."""
    place = out.resolve()
    for path in read:
        if place in (path.resolve(), *path.resolve().parents):
            raise InputError(f'out is "{out}", which is or holds "{path}"; choose another place, for it is replaced')
    check_place(out)
    check_target(place.parent, "out", out)


def _tokenizer(folder: Path | None, checkpoint: Checkpoint) -> str | None:
    """Return the text of tokenizer.json; pad-free, so that the model decides about length."""
    chosen = folder or checkpoint.source.parent
    if folder is None and not has_tokenizer(chosen):
        return None
    tokenizer = load_tokenizer(chosen)
    rows = checkpoint.student.config.vocab_size
    check_rows(tokenizer, chosen, rows)
    text = tokenizer.to_str()
    check_tokenizer(text.encode(), chosen / "tokenizer.json", rows, checkpoint.student.config.type_vocab_size)
    return text
