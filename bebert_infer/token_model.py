"""Members of one model and the rule that combines them: token ids -> every member's logits -> vote -> answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebert_infer.artifact.folder import Artifact, read_artifact
from bebert_infer.backend import chosen_backend, native_engine
from bebert_infer.combine import combine
from bebert_infer.early_exit import Decision, EarlyExit, ask_members, checked_early_exit
from bebert_infer.errors import InputError
from bebert_infer.limits import InputLimits, checked_limits, is_whole
from bebert_infer.model.batch import MAX_ROWS, Batch, ModelBounds, checked_inputs, padded_batch, ragged_batch
from bebert_infer.model.engine import Engine, ReferenceEngine
from bebert_infer.model.loading import build_members
from bebert_infer.model.member import Member
from bebert_infer.model.noise import Noise
from bebert_infer.model.quantizer import MinimumRule
from bebert_infer.native.memory import Memory, memory_of
from bebert_infer.prediction import Prediction, early_predictions, predictions
from bebert_infer.text.windows import EncodedText, Pool
from bebert_infer.threads import thread_budget


class TokenModel:
    """What an `Ensemble` is without texts: token ids in, logits and answers out."""

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
        """Make members and engine of an artifact; options as in `Ensemble.from_pretrained`.

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
        self.path = artifact.path
        self._folder = artifact.path.absolute()  # now: the process may change its working directory later
        self.config = artifact.config
        self.minimum: MinimumRule = minimum
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
