"""`bebert export`: a full-precision classifier for other engines; the work is in `bebert_export.peers.onnx_graph`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bebert_infer.console import plain
from bebert_infer.errors import InputError
from bebert_infer.optional import load_export

FORMATS = ("onnx",)


def export(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Full-precision classifier, Hugging Face layout, as <run>/full_precision of bebert train.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write, .onnx.", show_default=False)],
    format: Annotated[str, typer.Option(help="onnx: for ONNX Runtime, OpenVINO and others.")] = "onnx",
) -> None:
    """Write the full-precision parent of a model for other engines, checked against PyTorch.

    Packed models are written by bebert train and bebert convert.

    [dim]bebert export runs/mine/full_precision --out parent.onnx[/]
    """
    if format not in FORMATS:
        raise InputError(f'format is "{format}"; accepted is {", ".join(FORMATS)}')
    written = load_export("peers.onnx_graph", extra="bench").export_onnx(folder, out)
    Console().print(
        f"{plain(str(written.path))}: {written.bytes:,} bytes; "
        f"ONNX Runtime's logits differ from PyTorch's by at most {written.difference:.1e} of the largest",
        highlight=False,
        soft_wrap=True,
    )
