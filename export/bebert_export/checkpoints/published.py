"""Read published checkpoints: which family they are of, what their tensors say, and which of them are dead.

Families are recognised by their keys (numerics §8.3), dimensions by tensor shapes; the config must not contradict
them. Files hold latent float weights; what the published code saves under `quant/` is wrong and refused (§9.17).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bebert_export.checkpoints.untrusted_pickle import ProcessLimits, read_pickle
from bebert_export.checkpoints.weights import refuse_adapter, say_wrapper, wrapper_of
from bebert_export.student.bert import Student, StudentConfig, student_config
from bebert_infer.errors import CheckpointError, MissingCheckpointError, first_line

MAX_CONFIG_BYTES = 2**20
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # if both are there, the one that is no pickle
# Stored but without effect: BiBERT's scales, gates and clips at 1 bit, BiT's move_q/k/v, buffers (numerics §8.2, §9).
DEAD = re.compile(
    r"(\.scale|\.gate|\.weight_clip_val|\.embed_clip_val|\.move_[qkv]\.bias|\.position_ids|\.act_clip_val|\.clip_\w+)$"
)
# Fields that change the answer, and what all families compute. The activation is the family's own, whatever the config
# says, if it is one that encoders of these families have.
COMPUTED: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "auto_map": (None,),  # code of its own
}
ACTIVATIONS: dict[str, tuple[Any, ...]] = {"hidden_act": ("gelu", "relu")}
# What a config field must equal, among the dimensions read off the tensors.
FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "intermediate_size": "intermediate_size",
    "dyna_hidden_size": "attention_size",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "type_vocab_size",
    "num_labels": "num_labels",
    "num_attention_heads": "num_heads",
}


@dataclass(frozen=True)
class Checkpoint:
    """One member as read: the student with its weights, its config.json, and the keys that were not used."""

    source: Path
    student: Student
    raw_config: dict[str, Any]
    ignored: list[str]


def find_members(path: Path) -> list[tuple[Path, Path]]:
    """Return (weights file, folder of config.json) of every member below `path`.

    A folder with `model.safetensors` or `pytorch_model.bin`, one with `0.bin`, `1.bin`, … (BEBERT) in that order, or
    one weights file. Raises CheckpointError if there is none.
    """
    if path.is_file():
        return [(path, path.parent)]
    if not path.is_dir():
        raise MissingCheckpointError(
            f'there is no checkpoint "{path}"; pass a folder with config.json and {" or ".join(WEIGHTS)}'
        )
    for name in WEIGHTS:
        if (path / name).is_file():
            return [(path / name, path)]
    numbered = sorted((file for file in path.glob("*.bin") if file.stem.isdecimal()), key=lambda f: int(f.stem))
    numbers = [int(file.stem) for file in numbered]
    if numbers and numbers != list(range(first := min(numbers[0], 1), first + len(numbers))):
        raise CheckpointError(
            f'"{path}" holds the members {", ".join(map(str, numbers))}; accepted are 0, 1, 2, … without a gap: fetch '
            "the others, or name the files one by one"
        )
    if not numbered:
        raise MissingCheckpointError(
            f'"{path}" holds no checkpoint; accepted are {", ".join(WEIGHTS)}, or 0.bin, 1.bin, …'
        )
    return [(file, path) for file in numbered]


def read_checkpoint(weights: Path, folder: Path, limits: ProcessLimits | None = None) -> Checkpoint:
    """Read one member. Raises CheckpointError, naming the file, for everything that is not a published layout.

    limits : of the process that reads a pickle; default those of the environment
    """
    raw = _read_config(folder / "config.json")
    try:
        refuse_adapter(folder)
        state = _read_state(weights, limits)
        wrapped = wrapper_of(list(state))
        state = _clean({key.removeprefix(wrapped): value for key, value in state.items()})
        if wrapped:
            say_wrapper(str(weights), wrapped)
        family = recognise(state, raw)
        config = _student_config(family, state, raw)
        _check_dump(state)
        with torch.device("meta"):  # shapes only: a small file may describe a model that fills the memory
            shapes = Student(config).state_dict()
        ignored = _check(shapes, state, family)
        student = Student(config)
        student.load_state_dict({key: state[key] for key in shapes})
        student.eval()
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(f"{weights}: {error}") from None
    return Checkpoint(weights, student, raw, ignored)


def other_field(raw: Mapping[str, Any], accepted: Mapping[str, tuple[Any, ...]]) -> tuple[str, str] | None:
    """The first field that has no accepted value, with that value, and what is accepted; None if all have one."""
    for name, values in accepted.items():
        if raw.get(name, values[0]) not in values:
            return f"{name} {raw[name]!r:.80}", " or ".join("none" if value is None else str(value) for value in values)
    return None


def recognise(state: Mapping[str, Tensor], raw: Mapping[str, Any]) -> str:
    """Return the family that keys and config tell of (numerics §8.3). Raises CheckpointError if they tell none."""

    def any_key(ending: str) -> bool:
        return any(key.endswith(ending) for key in state)

    first = "bert.encoder.layer.0.attention.self.query"
    if f"{first}_1.weight" in state:
        return "binarybert"
    if any_key(".dense.move.bias") and f"{first}.input_clip_val" in state:
        return "bit"
    if f"{first}.input_clip_val" in state:
        return "bwn" if raw.get("weight_bits") == 1 else "ternary"  # the same keys
    if any_key(".output.gate") and f"{first}.scale" in state:
        return "bibert"
    if f"{first}.act_clip_val" in state:
        return "ternarybert"
    if f"{first}.weight" in state:
        raise CheckpointError(
            "this is a full-precision BERT, not a binary one; train binary members from it with "
            "`bebert train --init FOLDER`"
        )
    raise CheckpointError(
        "the keys belong to no known family (BinaryBERT, BEBERT, BiBERT, BiT, TernaryBERT); the first are "
        + ", ".join(sorted(state)[:3])
    )


def _read_config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(f'"{file.parent}" has no config.json; copy it there, it tells heads and activation bits')
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{file} has {file.stat().st_size} bytes; accepted are at most {MAX_CONFIG_BYTES}")
    try:
        raw = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{file} is no JSON object; a config is an object of fields")
    if raw.get("format") == "bebert-infer":
        raise CheckpointError(f'"{file.parent}" is already a packed model; run it with `bebert predict`')
    return raw


def _read_state(file: Path, limits: ProcessLimits | None) -> dict[str, Tensor]:
    if file.suffix != ".safetensors":
        return read_pickle(file, limits)
    try:
        return load_file(file)
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"cannot be read as a state dict ({first_line(error)}); fetch it again") from None


def _clean(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo TensorFlow-era names, cast to float32 (TWS files hold float64, §3)."""
    renamed = {}
    for key, value in state.items():
        key = key.replace(".gamma", ".weight").replace(".beta", ".bias")
        renamed[key] = value.float() if value.is_floating_point() else value
    return renamed


def _student_config(family: str, state: Mapping[str, Tensor], raw: Mapping[str, Any]) -> StudentConfig:
    heads, bits = raw.get("num_attention_heads"), raw.get("input_bits")
    for name, value in (("num_attention_heads", heads), ("input_bits", bits)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"config.json has {name} {value!r}; the tensors do not tell it, so it must be there")
    assert isinstance(heads, int) and isinstance(bits, int)
    weight_bits = 2 if family in ("ternary", "ternarybert") else 1
    if raw.get("weight_bits", weight_bits) != weight_bits:
        raise CheckpointError(f"config.json has weight_bits {raw['weight_bits']}; {family} tensors have {weight_bits}")
    if family == "bit" and raw.get("not_quantize_attention"):
        raise CheckpointError("config.json has not_quantize_attention true; accepted is false: float probabilities")
    if other := other_field(raw, COMPUTED | ACTIVATIONS):
        raise CheckpointError(f"config.json has {other[0]}; accepted is {other[1]}")
    eps = raw.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, int | float) or not 1e-30 <= eps <= 1:
        raise CheckpointError(f"config.json has layer_norm_eps {eps!r:.80}; accepted is 1e-30 to 1")
    config = student_config(family, state, heads, bits, layer_norm_eps=float(eps), dropout=0.0)
    contradictions = [
        f"{field} {raw[field]} (tensors: {getattr(config, name)})"
        for field, name in FIELDS.items()
        if isinstance(raw.get(field), int) and raw[field] != getattr(config, name)
    ]
    if contradictions:
        raise CheckpointError("config.json contradicts the tensors: " + ", ".join(contradictions))
    return config


def _check_dump(state: Mapping[str, Tensor]) -> None:
    """Refuse `quant/` dumps: their matrices hold quantized values, from which the scales cannot be recovered."""
    for key, value in state.items():
        if re.search(r"encoder\.layer\.\d+\..*(query|dense)(_1)?\.weight$", key) and value.numel() >= 64:
            if len(torch.unique(value)) <= 3:
                raise CheckpointError(
                    f"{key} holds at most three different values: this is a quant/ dump, whose scales are lost; "
                    "convert the latent checkpoint from the folder above it"
                )


def _check(own: Mapping[str, Tensor], state: Mapping[str, Tensor], family: str) -> list[str]:
    """Compare all tensors with those of the student; returns the keys that have no use. Raises CheckpointError."""
    faults = [f"{key} is missing" for key in own if key not in state]
    for key, target in own.items():
        if key not in state:
            continue
        if state[key].shape != target.shape:
            faults.append(f"{key} has shape {list(state[key].shape)}, expected {list(target.shape)}")
        elif state[key].dtype != target.dtype:
            faults.append(f"{key} has dtype {state[key].dtype}, expected {target.dtype}")
        elif not torch.isfinite(state[key]).all():
            faults.append(f"{key} holds NaN or infinity")
        elif key.endswith(("input_clip_val", "clip_query", "clip_key", "clip_value", "clip_attn")):
            if target.dim() == 0 and float(state[key]) == 0 and family != "bit":
                faults.append(f"{key} is a step of 0")
    extra = sorted(set(state) - set(own))
    faults += [f"{key:.200} belongs to no known layer" for key in extra if not DEAD.search(key)]
    if faults:
        more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise CheckpointError("; ".join(faults[:10]) + more)
    return extra
