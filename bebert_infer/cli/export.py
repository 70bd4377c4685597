"""`bebert export`: a full-precision classifier for other engines; the work is in `bebert_export.peers.onnx_graph`."""

from pathlib import Path

from bebert_infer.cli.options import path
from bebert_infer.cli.usage import argument, command, option
from bebert_infer.console import plain, stdout_console
from bebert_infer.errors import InputError
from bebert_infer.optional import load_export

FORMATS = ("onnx",)


@command()
@argument(
    "folder",
    type=path,
    help="Full-precision classifier, Hugging Face layout, as <run>/full_precision of bebert train.",
)
@option("--out", type=path, required=True, help="File to write, .onnx.")
@option("--format", default="onnx", help="onnx: for ONNX Runtime, OpenVINO and others.")
def export(folder: Path, out: Path, format: str) -> None:
    r"""Write the full-precision parent of a model for other engines, checked against PyTorch.

    Packed models are written by bebert train and bebert convert.

    \b
    bebert export runs/mine/full_precision --out parent.onnx
    """
    if format not in FORMATS:
        raise InputError(f'format is "{format}"; accepted is {", ".join(FORMATS)}')
    written = load_export("peers.onnx_graph", extra="bench").export_onnx(folder, out)
    stdout_console().print(
        f"{plain(str(written.path))}: {written.bytes:,} bytes; "
        f"ONNX Runtime's logits differ from PyTorch's by at most {written.difference:.1e} of the largest",
        highlight=False,
        soft_wrap=True,
    )
