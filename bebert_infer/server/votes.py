"""What each member says to one text: for the page that shows votes."""

import numpy as np

from bebert_infer.ensemble import Ensemble
from bebert_infer.prediction import Prediction, predictions
from bebert_infer.text.tokenizer import collate
from bebert_infer.text.windows import EncodedText, Pool


def member_answers(ensemble: Ensemble, text: EncodedText, pool: Pool) -> tuple[Prediction, list[Prediction]]:
    """The answer of all members, and the answer of each as if it were alone."""
    logits = ensemble.member_logits(*collate(text.windows).arrays)
    (answer,) = predictions(ensemble.config, ensemble.alphas, logits, [text], pool)
    alone = np.ones(1)  # a member of weight below 0 is shown as it spoke, not as it counted
    members = [predictions(ensemble.config, alone, logits[[index]], [text], pool)[0] for index in range(len(logits))]
    return answer, members
