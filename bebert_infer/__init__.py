"""Run binary ensemble BERT (BEBERT) on a CPU, on packed bits, without torch.

from bebert_infer import Ensemble
model = Ensemble.from_pretrained("model/")
model("a gripping, funny film")      # {"label": "positive", "score": 0.97}
"""

from bebert_infer.ensemble import Ensemble, Prediction
from bebert_infer.errors import BebertError, InputError, ModelFormatError
from bebert_infer.limits import InputLimits

__version__ = "0.1.0"
__all__ = ["BebertError", "Ensemble", "InputError", "InputLimits", "ModelFormatError", "Prediction", "__version__"]
