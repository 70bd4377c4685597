"""Published size and accuracy of BERT-base and its binary forms, which a report puts beside measured ones.

Scores: average of seven GLUE tasks (MNLI, QQP, QNLI, SST-2, CoLA, MRPC, RTE) on their dev files, times 100, with data
augmentation; MNLI counts matched in all rows but BiBERT's, where it counts mismatched. They come from Tian et al.,
"BEBERT: Efficient and Robust Binary Ensemble BERT", ICASSP 2023, Tables 1 and 2. Sizes as the papers count them (MB is
MiB; binary models without pooler, positions and types, see paper_cost.py), BiBERT's from Qin et al., ICLR 2022.
"""

from dataclasses import dataclass

SOURCE = "BEBERT, ICASSP 2023, Tables 1 and 2; size of BiBERT: ICLR 2022"
SCORE = "average of seven GLUE tasks"


@dataclass(frozen=True)
class Published:
    """One published model: bits of weights-embeddings-activations, MiB, score times 100, 10⁹ FLOPs as printed."""

    name: str
    bits: str
    mib: float
    score: float
    gflops: str


ROWS = (
    Published("BERT-base", "32-32-32", 418.0, 82.84, "22.5"),
    Published("TernaryBERT", "2-2-8", 28.0, 81.91, "6.0"),
    Published("BinaryBERT", "1-1-4", 16.5, 81.57, "1.5"),
    Published("BEBERT, 2 members", "1-1-4", 33.0, 82.53, "3.0/2"),
    Published("BiBERT", "1-1-1", 13.4, 70.97, "0.4"),
)
