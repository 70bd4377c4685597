"""An ensemble of binarized BERTs: text -> tokens -> every member's logits -> vote -> answer."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebert_infer.artifact.folder import CONFIG, Artifact, read_artifact, read_config
from bebert_infer.backend import chosen_backend, native_engine
from bebert_infer.combine import combine
from bebert_infer.early_exit import Decision, EarlyExit, ask_members, checked_early_exit
from bebert_infer.errors import BebertWarning, InputError
from bebert_infer.limits import InputLimits, checked_limits, is_whole
from bebert_infer.model.batch import (
    MAX_ROWS,
    Batch,
    ModelBounds,
    checked_inputs,
    listed_batch,
    padded_batch,
    ragged_batch,
)
from bebert_infer.model.engine import Engine, ReferenceEngine
from bebert_infer.model.loading import build_members
from bebert_infer.model.member import Member
from bebert_infer.model.noise import Noise
from bebert_infer.model.quantizer import MinimumRule
from bebert_infer.native.memory import Memory, memory_of
from bebert_infer.prediction import Prediction, early_predictions, predictions
from bebert_infer.text.tokenizer import EncodedBatch, Text, TextEncoder, as_texts, collate
from bebert_infer.text.windows import EncodedText, LongTexts, Pool, long_texts
from bebert_infer.threads import thread_budget


class Ensemble:
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
        """Make members and engine of an artifact; options as in `from_pretrained`.

        releases : nobody else has the tensors of `artifact`, and its folder can be read again: what the engine has in a
                   form of its own is given back to the system
        """
        if minimum not in ("zero", "batch"):
            raise InputError(f'minimum is "{minimum}"; accepted are "zero" and "batch"')
        self.backend = chosen_backend(backend)
        if minimum == "batch" and self.backend != "reference":
            raise InputError('minimum="batch" is the published rule for comparisons; it needs backend="reference"')
        if threads is not None and not is_whole(threads):
            raise InputError(f"threads is {threads!r:.80}; accepted is a whole number of at least 1")
        self.input_limits = checked_limits(limits)
        self.input_limits.check_model(artifact.config)
        self.path, self.tokenizer_json = artifact.path, artifact.tokenizer_json
        self._folder = artifact.path.absolute()  # now: the process may change its working directory later
        self.config = artifact.config
        self.minimum: MinimumRule = minimum
        self._options = {"threads": threads, "backend": backend, "minimum": minimum, "limits": limits}
        self.threads, self.threads_from = thread_budget(threads)
        self.alphas: NDArray[np.float64] = artifact.tensors["alphas"].copy()
        self._artifact: Artifact | None = artifact
        self._members: list[Member] | None = build_members(artifact.config, artifact.tensors)
        self.engine: Engine = ReferenceEngine(self._members, minimum)
        if self.backend == "native":
            self.engine = native_engine(self._members, self.threads, releases)
            if releases:
                self._artifact = self._members = None
        self.limits = ModelBounds(
            self.config.vocab_size, self.config.max_position_embeddings, self.config.type_vocab_size
        )
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

    @property
    def artifact(self) -> Artifact:
        """Config, tensors and tokenizer as the folder has them; read again if the engine has taken the tensors over.

        Raises ModelFormatError or InputError if the folder is gone, or holds another model now.
        """
        if self._artifact is None:
            again = read_artifact(self._folder)
            if again.config.tensors_sha256 != self.config.tensors_sha256:
                raise InputError(f'"{self._folder}" holds another model now than when it was loaded; load it again')
            self._artifact = again
        return self._artifact

    @property
    def members(self) -> list[Member]:
        """The members as the truth computes them (`model/`), whatever engine answers."""
        if self._members is None:
            self._members = build_members(self.config, self.artifact.tensors)
        return self._members

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

    def predict_ids(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        token_type_ids: ArrayLike | None = None,
        *,
        early_exit: EarlyExit | None = None,
    ) -> list[Prediction]:
        """Like `predict`, from token ids int[B, T]."""
        early_exit = self._checked_early_exit(early_exit)
        if early_exit is None:
            members = self.member_logits(input_ids, attention_mask, token_type_ids)
            return predictions(self.config, self.alphas, members)
        return self._answer_early(self._batch(input_ids, attention_mask, token_type_ids), early_exit)

    def _answer_early(
        self, batch: Batch, early_exit: EarlyExit, encoded: Sequence[EncodedText] | None = None, pool: Pool = "mean"
    ) -> list[Prediction]:
        """Answers to the texts whose windows are the sentences of a batch; without `encoded` each is a text."""

        def ask(member: int, sentences: NDArray[np.int64]) -> NDArray[np.float32]:
            part = batch if len(sentences) == batch.sentences else batch.taken(sentences)
            return self._member_logits(member, part)

        counts = [1] * batch.sentences if encoded is None else [len(one.windows) for one in encoded]
        asked = ask_members(Decision.of(self.config), self.alphas, counts, pool, early_exit, ask)
        return early_predictions(self.config, self.alphas, *asked, encoded, pool)

    def logits(
        self, input_ids: ArrayLike, attention_mask: ArrayLike | None = None, token_type_ids: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Combined scores float32[B, labels] under the model's rule (`combine.py`). Raises InputError."""
        members = self.member_logits(input_ids, attention_mask, token_type_ids)
        scores = combine(self.config.combination, members, self.alphas, multi_label=self.config.multi_label)
        return scores.astype(np.float32)

    def member_logits(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        token_type_ids: ArrayLike | None = None,
        *,
        noise: Noise | None = None,
    ) -> NDArray[np.float32]:
        """Logits of every member, float32[members, B, labels], for token ids int[B, T] (mask 1 = real token).

        On one instruction set the numbers are the same bits whatever the batch, padding, order or threads; with
        `noise` (`model/noise.py`) too, as long as an example keeps its number.
        Raises InputError.
        """
        return self._logits(self._batch(input_ids, attention_mask, token_type_ids), noise)

    def _logits(self, batch: Batch, noise: Noise | None = None) -> NDArray[np.float32]:
        """Logits float32[members, S, labels] of the sentences of a batch, a bounded number of rows at a time."""
        if noise is not None:
            noise = noise.numbered(batch.sentences)
        out = np.empty((len(self.alphas), batch.sentences, self.config.num_labels), np.float32)
        # Statistics of a whole batch need all rows at once.
        whole = [(slice(0, batch.sentences), batch)] if batch.sentences else []
        for sentences, chunk in whole if self.minimum == "batch" else batch.chunks(MAX_ROWS):
            parts = None if noise is None else [noise.part(sentences, index) for index in range(len(self.alphas))]
            out[:, sentences] = self.engine.member_logits(chunk, parts)
        return out

    def _member_logits(self, member: int, batch: Batch) -> NDArray[np.float32]:
        """Logits float32[B, labels] of one member, on all threads: the bits of `member_logits`."""
        parts = [self.engine.one_member_logits(member, chunk) for _, chunk in batch.chunks(MAX_ROWS)]
        return np.concatenate([np.empty((0, self.config.num_labels), np.float32), *parts])

    def _checked_early_exit(self, early_exit: EarlyExit | None) -> EarlyExit | None:
        if early_exit is not None and self.minimum == "batch":
            raise InputError('early_exit needs minimum="zero": with "batch" an answer depends on the texts beside it')
        return checked_early_exit(early_exit, self.config)

    def memory(self, sentences: int = 1, tokens: int | None = None) -> Memory:
        """Bytes that this model and calls of so many sentences of so many tokens take (`native/memory.py`).

        tokens : of a sentence; default all positions of the model
        """
        tokens = self.limits.positions if tokens is None else tokens
        tensors = {"alphas": self.alphas} if self._artifact is None else self._artifact.tensors
        return memory_of(self.config, tensors, self.engine, sentences, tokens)

    def trace(
        self, input_ids: ArrayLike, attention_mask: ArrayLike | None = None, token_type_ids: ArrayLike | None = None
    ) -> list[dict[str, Any]]:
        """Codes and hidden states of every member, from the truth, whatever engine answers: for checks and study.

        Arrays have one row a token, padding left out (with minimum="batch" it is kept).
        """
        batch = self._batch(input_ids, attention_mask, token_type_ids)
        traces: list[dict[str, Any]] = [{} for _ in self.members]
        for member, trace in zip(self.members, traces, strict=True):
            member.forward(batch, self.minimum, trace=trace)
        return traces

    def _batch(self, ids: ArrayLike, mask: ArrayLike | None, types: ArrayLike | None) -> Batch:
        checked = checked_inputs(ids, mask, types, self.limits)
        sentences, tokens = checked[0].shape
        self.input_limits.check_rows(sentences)
        if tokens > self.input_limits.length(tokens):
            raise InputError(f"input_ids has {tokens} tokens a row; limits.tokens is {self.input_limits.tokens}")
        return padded_batch(*checked) if self.minimum == "batch" else ragged_batch(*checked)


def _load_again(folder: str, sha256: str, options: dict[str, Any]) -> Ensemble:
    """What unpickling does."""
    model = Ensemble.from_pretrained(folder, **options)
    if model.config.tensors_sha256 != sha256:
        raise InputError(f'"{folder}" holds another model than when it was pickled; pickle the model again')
    return model
