"""Child process of `untrusted_pickle.py`: read one pickle of tensors under hard limits and write it as safetensors.

Its arguments are SOURCE TARGET MEMORY SECONDS. It imports nothing of this package. Exit code 0: TARGET is written; 3:
the reason is on standard output.
"""

import resource
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

REFUSED = 3
MAX_TENSORS = 2**16
DTYPES = {
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
}


def limit(memory: int, seconds: int) -> None:
    """From now on at most `memory` bytes of address space and `seconds` of CPU time more than so far."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, until + 1))


def checked(state: Any, most: int) -> dict[str, torch.Tensor]:
    """Plain tensors by name, at most `most` bytes of them. Raises ValueError, which says what is not accepted."""
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError("is no state dict of tensors; save model.state_dict()")
    if len(state) > MAX_TENSORS:
        raise ValueError(f"holds {len(state)} tensors; accepted are at most {MAX_TENSORS}")
    total = 0
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError("is no state dict of tensors; save model.state_dict()")
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.dtype not in DTYPES or value.dim() > 8:
            raise ValueError(f"{name:.200} is a {value.layout} tensor of {value.dtype}; accepted are plain numbers")
        # A view with stride 0 claims terabytes and stores four bytes.
        total += value.numel() * value.element_size()
        if total > most:
            raise ValueError(f"claims more than {most} bytes of tensors, far more than the file holds")
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def main(source: str, target: str, memory: str, seconds: str) -> int:
    """Do what the file's docstring says."""
    torch.set_num_threads(1)
    limit(int(memory), int(seconds))
    try:
        # weights_only: only tensors and plain containers are made, whatever the pickle names.
        state = torch.load(source, map_location="cpu", weights_only=True)
        most = 4 * Path(source).stat().st_size + 2**20
        save_file(checked(state, most), target, metadata={"format": "pt"})
        return 0
    except MemoryError:
        reason = "memory"
    except Exception as error:  # unpickling a hostile file may raise anything
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allocate memory" in str(error) or "bad_alloc" in str(error):
            reason = "memory"
        elif isinstance(error, ValueError) and first.startswith(("is no", "holds", "claims")) or "accepted" in first:
            reason = first
        else:
            reason = f"cannot be read as a state dict ({first[:160]}); fetch it again"
    sys.stdout.write(reason[:600])
    sys.stdout.flush()
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
