"""Checkpoints with random weights, as the published code of every family saves them."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from bebert_export.student.bert import Student, StudentConfig

# Not a pickle, which would be read by a process of its own each time: tests/export/test_untrusted.py does that.
MODEL = "model.safetensors"
# Dimensions with nothing round about them: hidden no multiple of 64, odd FFN width, head sizes 24 and 5.
ODD = StudentConfig(
    "binarybert",
    4,
    vocab_size=61,
    hidden_size=70,
    attention_size=48,
    num_heads=2,
    intermediate_size=77,
    num_layers=3,
    max_positions=45,
    num_labels=5,
)
FAMILIES = {
    "binarybert 1-1-4": ODD,
    "binarybert 1-1-8": replace(ODD, activation_bits=8),
    "full width": replace(ODD, attention_size=70, num_heads=14),
    "ternary": replace(ODD, family="ternary"),
    "bwn": replace(ODD, family="bwn"),
    "bibert": replace(ODD, family="bibert", activation_bits=1, attention_size=130, num_heads=2),
    "bit 1-1-1": replace(ODD, family="bit", activation_bits=1),
    "bit 1-1-2": replace(ODD, family="bit", activation_bits=2),
    "bit 1-1-4": replace(ODD, family="bit", activation_bits=4),
    "ternarybert": replace(ODD, family="ternarybert", activation_bits=8),
    "one label": replace(ODD, num_labels=1),
    "one layer": replace(ODD, num_layers=1),
}


def make_checkpoint(folder: Path, config: StudentConfig, seed: int = 0, **fields: object) -> Path:
    """Write a checkpoint with random weights as the published code saves it."""
    torch.manual_seed(seed)
    student = Student(config)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if parameter.dim() == 0:  # steps: different ones, in a range that uses many codes
                parameter.fill_(float(torch.empty(1).uniform_(0.1, 0.4)))
            elif parameter.dim() == 1 and not name.endswith("clip_val") and "clip_" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif parameter.dim() == 2:
                parameter.copy_(torch.randn_like(parameter) * 0.1 + 0.01 * torch.randn(len(parameter), 1))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(student.state_dict() | _dead_keys(student), folder / MODEL)
    raw = {
        "num_attention_heads": config.num_heads,
        "hidden_size": config.hidden_size,
        "input_bits": config.activation_bits,
        "weight_bits": 2 if "ternary" in config.family else 1,
    }
    (folder / "config.json").write_text(json.dumps(raw | fields))
    return folder


def _dead_keys(student: Student) -> dict[str, torch.Tensor]:
    """What BiBERT and BiT store beside the weights, without effect; BiBERT is recognised by it."""
    dead = {}
    for layer in range(student.config.num_layers):
        name = f"bert.encoder.layer.{layer}"
        if student.config.family == "bibert":
            for kind in ("query", "key", "value"):
                dead[f"{name}.attention.self.{kind}.scale"] = torch.tensor(0.7)
                dead[f"{name}.attention.self.{kind}.weight_clip_val"] = torch.tensor([-2.5, 2.5])
            dead[f"{name}.output.gate"] = torch.tensor(0.3)
        if student.config.family == "bit":
            dead[f"{name}.attention.self.move_q.bias"] = torch.ones(student.config.attention_size)
    return dead
