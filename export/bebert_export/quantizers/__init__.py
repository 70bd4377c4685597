"""All quantizers under one name; see the three modules that it gathers."""

from bebert_export.quantizers.activations import ActivationQuantizer, Bool, Codes, Dynamic, Sign
from bebert_export.quantizers.learned_step import Elastic, Lsq, MinimumRule
from bebert_export.quantizers.weights import (
    BinaryWeight,
    RowCentredBinaryWeight,
    TensorCentredBinaryWeight,
    TernaryWeight,
    WeightBranch,
    WeightQuantizer,
)

__all__ = [
    "ActivationQuantizer",
    "BinaryWeight",
    "Bool",
    "WeightBranch",
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
