"""All quantizers under one name; see the three modules that it gathers."""

from bebert_export.activation_quantizers import ActivationQuantizer, Bool, Codes, Dynamic, Sign
from bebert_export.step_quantizers import Elastic, Lsq, MinimumRule
from bebert_export.weight_quantizers import (
    BinaryWeight,
    Branch,
    RowCentredBinaryWeight,
    TensorCentredBinaryWeight,
    TernaryWeight,
    WeightQuantizer,
)

__all__ = [
    "ActivationQuantizer",
    "BinaryWeight",
    "Bool",
    "Branch",
    "Codes",
    "Dynamic",
    "Elastic",
    "Lsq",
    "MinimumRule",
    "RowCentredBinaryWeight",
    "Sign",
    "TensorCentredBinaryWeight",
    "TernaryWeight",
    "WeightQuantizer",
]
