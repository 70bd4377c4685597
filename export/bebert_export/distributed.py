"""Where training runs: one CPU, one GPU, or several processes started by `accelerate launch` or `torchrun`.

Every process holds the whole data set and the whole model. The rows of each batch are cut among the processes, and
the sum of their gradients is the gradient of the batch, so all processes keep equal weights. Two exceptions: a learned
quantizer step scales its gradient by the rows of its process, and direction matching takes norms over them. Only the
main process writes files; the others wait for them. Models rest on the CPU between training and prediction.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn

LONGEST_WAIT = timedelta(days=1)  # the others wait while the main process packs and evaluates
PRECISIONS = ("auto", "float32", "bfloat16")
# Any of these and a processor multiplies bfloat16 faster than float32; without them it is emulated, slowly.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}

Result = TypeVar("Result")


@cache
def processes() -> PartialState:
    """The place of this process among all, and its device: a CUDA GPU if there is one, else the CPU."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def processes_here() -> int:
    """Processes of this run on this machine, which share its processor."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def device() -> torch.device:
    """Device of this process."""
    return processes().device


def is_main() -> bool:
    """Whether this process writes files, logs and bars."""
    return processes().is_main_process


def main_writes(write: Callable[[], object]) -> None:
    """Let the main process write something; every process goes on when it is there."""
    if is_main():
        write()
    processes().wait_for_everyone()


def share(count: int) -> slice:
    """The rows of a batch of `count` that this process computes: all of them if it is alone."""
    rank, number = processes().process_index, processes().num_processes
    return slice(rank * count // number, (rank + 1) * count // number)


def add_up(parameters: Iterable[nn.Parameter], loss: Tensor | None, vote: bool) -> tuple[float, bool]:
    """Sum gradients (in place) and losses over all processes; returns the loss and whether any process voted yes.

    loss : this process's part of the batch's loss, None if it had no rows.
    A gradient that no process has stays None: zeros would make the optimizer decay weights that were not used.
    """
    if processes().num_processes == 1:
        assert loss is not None
        return loss.item(), vote
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.float32)
    own = 0.0 if loss is None else loss.detach()
    tail = torch.stack([torch.as_tensor(own, device=device()), torch.as_tensor(float(vote), device=device())])
    parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained]
    total = reduce(torch.cat([*parts, used.to(device()), tail]), "sum")
    *flags, loss_sum, votes = total[-len(trained) - 2 :].tolist()
    start = 0
    for parameter, flag in zip(trained, flags, strict=True):
        end = start + parameter.numel()
        parameter.grad = total[start:end].view_as(parameter) if flag else None
        start = end
    return loss_sum, votes > 0


def add_arrays(values: Tensor) -> Tensor:
    """Sum of a tensor over all processes."""
    return values if processes().num_processes == 1 else reduce(values.to(device()), "sum").cpu()


def from_all(value: Result) -> list[Result]:
    """One value of each process, in their order, everywhere."""
    found: list[Result] = gather_object([value])
    return found


def chosen_precision(asked: str) -> str:
    """`float32` or `bfloat16`: what was asked, or for "auto" bfloat16 where the device multiplies it faster."""
    if asked != "auto":
        return asked
    if device().type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = bool(BFLOAT16_FLAGS & _processor_flags())
    return "bfloat16" if fast else "float32"


def _processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split()}


def autocast(precision: str) -> AbstractContextManager[object]:
    """Matrix products of the block in `precision`; quantizers step out of it (`layers.exactly`)."""
    return torch.autocast(device().type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
