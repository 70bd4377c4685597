"""An ensemble of binarized BERTs, from a folder or the hub: text -> tokens -> answer (`token_model.py`)."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bebert_infer.artifact.folder import CONFIG, Artifact, read_artifact, read_config
from bebert_infer.early_exit import EarlyExit
from bebert_infer.errors import BebertWarning, InputError
from bebert_infer.limits import InputLimits, checked_limits, is_whole
from bebert_infer.model.batch import (
    listed_batch,
)
from bebert_infer.model.quantizer import MinimumRule
from bebert_infer.prediction import Prediction, predictions
from bebert_infer.text.tokenizer import EncodedBatch, Text, TextEncoder, as_texts, collate
from bebert_infer.text.windows import EncodedText, LongTexts, Pool, long_texts
from bebert_infer.token_model import TokenModel


class Ensemble(TokenModel):
    """Members of one model folder and the rule that combines them; safe to use from many threads at once."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int | None = None,
        backend: str | None = None,
        minimum: MinimumRule = "zero",
        limits: InputLimits | None = None,
        releases: bool = False,
    ):
        """Make members, engine and tokenizer of an artifact; options as in `from_pretrained`.

        releases : as in `TokenModel`
        """
        self._options: dict[str, Any] = {"threads": threads, "backend": backend, "minimum": minimum, "limits": limits}
        super().__init__(artifact, releases=releases, **self._options)
        self.tokenizer_json = artifact.tokenizer_json
        self._encoder: TextEncoder | None = None
        if artifact.tokenizer_json is not None and self.config.tokenizer is not None:
            length = self.config.tokenizer.max_length
            self._encoder = TextEncoder(artifact.tokenizer_json, length, self.config.vocab_size, self.input_limits)

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        threads: int | None = None,
        backend: str | None = None,
        minimum: MinimumRule = "zero",
        limits: InputLimits | None = None,
    ) -> "Ensemble":
        """Load a model folder, or a model of the Hugging Face hub: "owner/name", where no folder has that name.

        revision, token, cache_dir, local_files_only : of the hub (`hub.py`): branch, tag or commit; access token,
                  default the one of HF_TOKEN or of `hf auth login`; its cache; True asks no server
        threads : budget for one call; default BEBERT_THREADS, else CPU affinity and cgroup quota
        backend : "native", or "reference" for the NumPy truth; default BEBERT_BACKEND, else "native"
        minimum : "zero", or "batch" for the published batch-wide rule (reference only)
        limits  : of models and inputs (`limits.py`)

        Raises ModelFormatError for a folder that is missing, damaged or no model, InputError for bad options and for
        a model beyond the limits, HubError for a model that cannot be fetched.
        """
        if revision is not None or not os.path.lexists(path):
            from bebert_infer.hub import local_folder  # a folder needs no code of the hub

            path = local_folder(
                path, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
            )
        if limits is not None:
            checked_limits(limits).check_model(read_config(path))  # before its tensors are read
        artifact = read_artifact(Path(path))
        return cls(artifact, threads=threads, backend=backend, minimum=minimum, limits=limits, releases=True)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write this model as a folder, whole or not at all; its files are those that it was loaded from.

        Raises ModelFormatError if `folder` holds anything but a model, or if the files of this one are gone or others.
        """
        from bebert_infer.hub import save

        save(self.artifact, folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
    ) -> str:
        """Bring this model to the hub as "owner/name" and return the address of the commit, the only one that it makes.

        private  : of a repository that is made; one that is there must be so already if True
        token    : with the right to write; default the one of HF_TOKEN or of `hf auth login`
        revision : branch, made where it is missing; default main

        Raises InputError, HubError, and ModelFormatError as `save_pretrained`.
        """
        from bebert_infer.hub import push

        return push(
            self.artifact, repo_id, private=private, commit_message=commit_message, token=token, revision=revision
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle path and options: another process loads the folder itself. Raises InputError where there is none."""
        if not (self._folder / CONFIG).is_file():
            raise InputError(
                f'this model is in memory only ("{self.path}"); '
                "write it with save_pretrained and load that folder, then it can be pickled"
            )
        return _load_again, (str(self._folder), self.config.tensors_sha256, self._options)

    def __sklearn_clone__(self) -> "Ensemble":
        """Itself: scikit-learn copies the parameters of an estimator for every fold, and a model does not change."""
        return self

    def __call__(
        self,
        inputs: Any,
        *,
        top_k: int | None = 1,
        truncate: bool = False,
        long: str | None = None,
        overlap: int | None = None,
        pool: str = "mean",
        early_exit: EarlyExit | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """Classify one text, a pair, or a list of these, with answers shaped like a transformers pipeline's.

        top_k : 1 gives {"label", "score"}; a larger number or None (all) gives a list of them, best first.
        truncate, long, overlap, pool, early_exit : as in `predict`
        One input gives one answer, a list gives a list. Raises InputError.
        """
        if top_k is not None and not (is_whole(top_k) and top_k >= 1):
            raise InputError(
                f"top_k is {top_k!r:.80}; accepted are whole numbers of at least 1, or None for all labels"
            )
        texts, single = as_texts(inputs, self.input_limits)
        answers: list[Any] = []
        options: dict[str, Any] = {"long": long, "overlap": overlap, "pool": pool, "early_exit": early_exit}
        for prediction in self.predict(texts, truncate=truncate, **options):
            best = [{"label": label, "score": score} for label, score in prediction.ranked()[:top_k]]
            answers.append(best[0] if top_k == 1 else best)
        return answers[0] if single else answers

    def predict(
        self,
        inputs: Any,
        *,
        truncate: bool = False,
        long: str | None = None,
        overlap: int | None = None,
        pool: str = "mean",
        early_exit: EarlyExit | None = None,
    ) -> list[Prediction]:
        """Classify a list of texts or pairs (or one); returns one Prediction each. Raises InputError.

        long     : what to do with texts of too many tokens: "error" (default), "truncate" (cut the end, with a
                   warning) or "windows" (read all of it in parts that overlap, `text/windows.py`)
        truncate : True is long="truncate" without the warning
        overlap  : tokens that neighbouring windows share; default a quarter of what moves
        pool     : how the windows of a text make one answer: "mean" of probabilities, or "max", the surest window
        early_exit : "exact" asks no further member once none can change the label, a number like 0.9 also stops at this
                   probability (`early_exit.py`); scores are then of the members that spoke, `members_run` says how many
        """
        rule = long_texts(truncate, long, overlap, pool)
        texts, _ = as_texts(inputs, self.input_limits)
        encoded = [self.encode_text(text, rule, f"text {index}") for index, text in enumerate(texts)]
        cut = [index for index, one in enumerate(encoded) if one.cut]
        if cut and not truncate:
            warnings.warn(
                f"{len(cut)} of {len(texts)} texts lost their end beyond the token limit, the first is text {cut[0]} "
                f"with {encoded[cut[0]].cut} tokens too many",
                BebertWarning,
                stacklevel=2,
            )
        return self.predict_encoded(encoded, rule.pool, early_exit)

    def encode(self, inputs: Any, *, truncate: bool = False) -> EncodedBatch:
        """Token ids, mask and types int64[B, T] of a list of texts or pairs (or one). Raises InputError."""
        rule = long_texts(truncate, None, None, "mean")
        texts, _ = as_texts(inputs, self.input_limits)
        encoded = [self.encode_text(text, rule, f"text {index}") for index, text in enumerate(texts)]
        return collate([window for one in encoded for window in one.windows])

    def encode_text(self, text: Text, long: LongTexts, name: str) -> EncodedText:
        """Token ids of one text or pair, in windows if `long` says so; errors call it `name`. Raises InputError."""
        return self._text_encoder().encode(text, long, name)

    def check_texts(self, long: LongTexts) -> None:
        """Raise InputError if this model takes no texts at all, or none with these options."""
        self._text_encoder().check(long)

    def _text_encoder(self) -> TextEncoder:
        if self._encoder is None:
            raise InputError(
                "this model has no tokenizer and takes token ids only: call logits(input_ids, …), "
                "or convert the checkpoint again with --tokenizer DIR"
            )
        return self._encoder

    def predict_encoded(
        self, encoded: Sequence[EncodedText], pool: Pool = "mean", early_exit: EarlyExit | None = None
    ) -> list[Prediction]:
        """One Prediction for each of these texts, from all of its windows, as by `predict`. Raises InputError."""
        early_exit = self._checked_early_exit(early_exit)
        windows = [window for one in encoded for window in one.windows]
        self.input_limits.check_rows(len(windows))
        padded = self.minimum == "batch"
        batch = self._batch(*collate(windows).arrays) if padded else listed_batch(windows, self.limits)
        if early_exit is None:
            return predictions(self.config, self.alphas, self._logits(batch), encoded, pool)
        return self._answer_early(batch, early_exit, encoded, pool)


def _load_again(folder: str, sha256: str, options: dict[str, Any]) -> Ensemble:
    """What unpickling does."""
    model = Ensemble.from_pretrained(folder, **options)
    if model.config.tensors_sha256 != sha256:
        raise InputError(f'"{folder}" holds another model than when it was pickled; pickle the model again')
    return model
