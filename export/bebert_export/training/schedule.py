"""How long, how fast and how precisely to train."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """AdamW, linear warm-up, then linear decay to 0.

    `epochs` may be a fraction. Learned quantizer steps have their own rate and no weight decay.

    precision   : of matrix products in training, "float32" or "bfloat16"; predictions are always float32
    patience    : evaluations on the held-out part without a lower loss after which training ends and goes back to the
                  best weights; 0 trains to the end and keeps the last weights
    evaluations : of the held-out part, an epoch
    """

    epochs: float
    batch_size: int
    learning_rate: float
    step_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_norm: float = 1.0
    precision: str = "float32"
    patience: int = 0
    evaluations: int = 1

    def epoch_steps(self, examples: int) -> int:
        """Optimizer steps of one epoch."""
        return -(-examples // self.batch_size)

    def steps(self, examples: int) -> int:
        """Optimizer steps of the whole training, at least one."""
        return max(1, round(self.epochs * self.epoch_steps(examples)))
