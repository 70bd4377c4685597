"""Run binary ensemble BERT (BEBERT) on a CPU, on packed bits, without torch.

from bebert_infer import Ensemble
model = Ensemble.from_pretrained("model/")
model("a gripping, funny film")      # {"label": "positive", "score": 0.97}
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bebert_infer.ensemble import Ensemble, Prediction
    from bebert_infer.errors import BebertError, InputError, ModelFormatError
    from bebert_infer.limits import InputLimits

__version__ = "0.1.0"
__all__ = ["BebertError", "Ensemble", "InputError", "InputLimits", "ModelFormatError", "Prediction", "__version__"]

# Where a name comes from when it is first asked for: the command line's help needs none, and numpy takes a while.
_MODULES = {
    "Ensemble": "ensemble",
    "Prediction": "ensemble",
    "BebertError": "errors",
    "InputError": "errors",
    "ModelFormatError": "errors",
    "InputLimits": "limits",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
