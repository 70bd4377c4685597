"""`bebert export`: a model for other engines, checked; `packed_onnx` and `peers` of `bebert_export` do the work."""

from pathlib import Path

from bebert_infer.cli.options import path
from bebert_infer.cli.usage import argument, command, option
from bebert_infer.console import plain, stdout_console
from bebert_infer.errors import InputError
from bebert_infer.optional import load_export

FORMATS = ("onnx",)


@command()
@argument(
    "model",
    help="Packed model, or its name on the hub, or a full-precision classifier in the Hugging Face layout, as "
    "<run>/full_precision of bebert train.",
)
@option("--out", type=path, required=True, help="File to write, .onnx.")
@option("--format", default="onnx", help="onnx: for ONNX Runtime, on a computer or in a browser, and others.")
def export(model: str, out: Path, format: str) -> None:
    r"""Write a packed model, or a full-precision parent, for other engines.

    A packed model becomes one file with all members and the vote, its signs still packed, and tokenizer.json beside it;
    it is written if ONNX Runtime gives the engine's answers. A parent is checked against PyTorch.

    \b
    bebert export model/ --out packed/model.onnx
    bebert export runs/mine/full_precision --out parent.onnx
    """
    from bebert_infer.artifact.folder import is_packed
    from bebert_infer.hub import local_folder

    if format not in FORMATS:
        raise InputError(f'format is "{format}"; accepted is {", ".join(FORMATS)}')
    folder = local_folder(model)
    if is_packed(folder):
        packed = load_export("packed_onnx.export", extra="onnx").export_packed(folder, out)
        seen = packed.agreement
        text = (
            f"{plain(str(packed.path))}: {packed.bytes:,} bytes, {packed.bytes / packed.packed_bytes:.2f} times the "
            f"packed tensors; in ONNX Runtime {seen.flips} of {seen.codes:,} codes differ from the engine's, and no "
            f"label of {seen.sentences} sentences; logits by at most {seen.max_logit_difference:.1e}"
        )
    else:
        written = load_export("peers.onnx_graph", extra="bench").export_onnx(folder, out)
        text = (
            f"{plain(str(written.path))}: {written.bytes:,} bytes; "
            f"ONNX Runtime's logits differ from PyTorch's by at most {written.difference:.1e} of the largest"
        )
    stdout_console().print(text, highlight=False, soft_wrap=True)
