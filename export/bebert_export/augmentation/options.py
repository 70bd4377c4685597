"""Every choice of `bebert augment`: name, type, default, and its sentence in `--help`. Needs no torch, no numpy."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bebert_infer.errors import InputError

if TYPE_CHECKING:
    from bebert_export.augmentation.replacement import Sampling


@dataclass(frozen=True)
class AugmentOptions:
    """Everything that an augmented file depends on; the same options and files give the same bytes on one machine."""

    data: Annotated[Path, "Labelled .tsv, .csv, .jsonl or .parquet, as for train."]
    masked_lm: Annotated[str, "Pretrained masked language model (WordPiece): a folder or a hub id."]
    out: Annotated[Path, ".tsv to write; candidates are kept beside it, and a run resumes there."]
    word_vectors: Annotated[Path | None, "GloVe text file. Without it, words of several pieces stay as they are."] = (
        None
    )
    copies: Annotated[int, "Sentences drawn for each sentence; duplicates are dropped."] = 20
    probability: Annotated[float, "Of replacing a word."] = 0.4
    candidates: Annotated[int, "Words to draw from, for each word."] = 15
    seed: Annotated[int, "Same seed, same machine: same file."] = 42
    max_length: Annotated[int, "Tokens the model reads: the text twice; a window of a longer one."] = 128
    threads: Annotated[int | None, "Thread budget. Default: BEBERT_THREADS, else what the machine grants."] = None

    @property
    def sampling(self) -> "Sampling":
        """The options of the drawing."""
        from bebert_export.augmentation.replacement import Sampling  # imports numpy, which --help does without

        return Sampling(self.copies, self.probability, self.seed)

    def check(self) -> None:
        """Raise InputError for the first value that is not accepted."""
        self.sampling.check()
        for name, least in (("candidates", 1), ("max_length", 5)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; accepted are whole numbers of at least {least}")
        if self.out.is_dir():
            raise InputError(f'out is "{self.out}", which is a folder; pass a file')
        if self.out.suffix != ".tsv":
            raise InputError(f'out is "{self.out}"; accepted is a file ending in .tsv')
        for file in (self.data, self.word_vectors):
            if file is not None and self.out.resolve() == file.resolve():
                raise InputError(f'out is "{self.out}", which is read too; choose another file')
