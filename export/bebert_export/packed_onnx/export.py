"""A packed model folder as one ONNX file, checked against the engine before it takes its place."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from bebert_export.packed_onnx.build import build
from bebert_export.packed_onnx.check import Agreement, check
from bebert_infer.artifact.folder import TOKENIZER
from bebert_infer.atomic_files import check_target, staging, whole_file, writing
from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import DataError

MAX_BYTES = 2**31 - 1  # of a file that refers to no other: the most that its format holds


@dataclass(frozen=True)
class Exported:
    """The file, its bytes, those of the packed tensors, and what the check saw."""

    path: Path
    bytes: int
    packed_bytes: int
    agreement: Agreement


def export_packed(folder: Path, out: Path) -> Exported:
    """Write the model of a folder as `out`, with all members and the vote, and its tokenizer.json beside it.

    Raises DataError for a bad place and a model too large for one file, ParityError where ONNX Runtime computes
    something else than the engine, ModelFormatError and InputError as `Ensemble.from_pretrained`. Then nothing is
    written.
    """
    if out.suffix != ".onnx" or out.is_dir():
        raise DataError(f'out is "{out}"; accepted is a file name that ends in .onnx')
    check_target(out.parent, "out", out)
    ensemble = Ensemble.from_pretrained(folder)
    beside = out.parent / TOKENIZER
    tokenizer = ensemble.tokenizer_json
    if tokenizer is not None and beside.exists() and beside.read_text("utf-8") != tokenizer:
        raise DataError(
            f'"{beside}" is the tokenizer of another model, and that of this one goes there; choose another folder'
        )
    model = build(ensemble)
    size = model.ByteSize()
    if size > MAX_BYTES:
        raise DataError(f"the model takes {size:,} bytes as ONNX; one file holds at most {MAX_BYTES:,}")
    onnx.checker.check_model(model, full_check=True)
    with writing(out), staging(out) as made:
        made.write_bytes(model.SerializeToString(deterministic=True))
        agreement = check(ensemble, made)
        if tokenizer is not None and not beside.exists():
            with whole_file(beside) as stream:
                stream.write(tokenizer)
    return Exported(out, size, ensemble.config.tensors_bytes, agreement)
