"""What the shipped model answers, on every machine."""

import json
from pathlib import Path

import numpy as np

from bebert_infer import Ensemble
from bebert_infer.cli.demo import SENTENCES
from bebert_infer.measure.sample_models import demo_path

# Written with the model: logits of both members for the demo's sentences, on one x86 CPU.
STORED = Path(__file__).parents[1] / "data" / "demo_answers.json"


def check_stored_answers() -> None:
    """Integers are exact on every instruction set; what remains is the rounding of a few float32 sums and tanh."""
    model = Ensemble.from_pretrained(demo_path())
    stored = json.loads(STORED.read_text())
    sentences = [sentence for sentence, _ in SENTENCES]
    encoded = model.encode(sentences)
    found = model.member_logits(encoded.input_ids, encoded.attention_mask, encoded.token_type_ids)
    np.testing.assert_allclose(found, np.array(stored["member_logits"]), atol=2e-5, rtol=0)
    assert [prediction.label for prediction in model.predict(sentences)] == stored["labels"]
