"""A packed model as a classifier of scikit-learn: in a Pipeline, in `cross_val_predict`, under any of its metrics.

    classifier = BebertClassifier("model/")
    classifier.predict_proba(["a gripping, funny film"])    # columns as in classifier.classes_
    classifier.fit(texts, y).score(texts, y)                # y: the model's labels, or the numbers of its outputs

The model is trained already, so `fit` trains nothing: it checks that the model can answer for these texts in these
labels, and learns what they are called. Without it the model's own names are used.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebert_infer.ensemble import Ensemble
from bebert_infer.errors import InputError
from bebert_infer.optional import load_package

load_package("sklearn", "sklearn")  # says what to install where it is missing

from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import column_or_1d, validate_data  # noqa: E402


class BebertClassifier(ClassifierMixin, BaseEstimator):
    """Classifier of texts, or of pairs of texts.

    model   : folder of a packed model, its name on the hub, or an Ensemble; its classes exclude each other
    labels  : what `y` calls the outputs of the model, in their order; None: as the model calls them, or by their
              numbers where `fit` sees whole numbers
    threads : of a model that is not an Ensemble yet, as in `Ensemble.from_pretrained`
    long    : what to do with texts of too many tokens, "error", "truncate" or "windows", as in `Ensemble.predict`

    X is a list, array or column of texts [n], an array or table of one column [n, 1], or of pairs [n, 2].
    After `fit`: `labels_` [K], names of the outputs in the model's order; `n_features_in_` where X has columns.
    """

    def __init__(
        self, model: Any = None, *, labels: Any = None, threads: int | None = None, long: str = "truncate"
    ) -> None:
        self.model = model
        self.labels = labels
        self.threads = threads
        self.long = long

    def fit(self, X: Any, y: ArrayLike) -> "BebertClassifier":
        """Check that the model can answer for these texts and labels; nothing is trained.

        y : labels [n], each of which the model knows

        Raises InputError, which is a ValueError, and what `Ensemble.from_pretrained` raises.
        """
        if y is None:
            raise InputError(
                "BebertClassifier requires y to be passed, but the target y is None; pass one label a text"
            )
        values = column_or_1d(y, warn=True)
        check_classification_targets(values)
        texts = self._texts(X, reset=True)
        if len(values) != len(texts):
            raise InputError(f"y has {len(values)} labels for {len(texts)} texts; pass one each")
        self.labels_ = self._labels(np.unique(values))
        return self

    def predict(self, X: Any) -> NDArray:
        """The labels [n] that the ensemble answers, by its own rule."""
        names = self._names()
        ensemble, answers = self._answers(X)
        number = ensemble.config.label2id
        return names[[number[answer.label] for answer in answers]]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities [n, K], columns in the order of `classes_`."""
        order = np.argsort(self._names())
        ensemble, answers = self._answers(X)
        labels = [ensemble.config.labels[index] for index in order]
        return np.array([[answer.probabilities[label] for label in labels] for answer in answers], np.float64)

    @property
    def classes_(self) -> NDArray:
        """The labels [K] that `predict` answers with, sorted."""
        return np.sort(self._names())

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know: texts in, a trained model inside."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = tags.input_tags.two_d_array = True
        tags.requires_fit = False
        tags.target_tags.required = True
        return tags

    def _ensemble(self) -> Ensemble:
        """The model, loaded once. Raises InputError for one whose answers are no classes."""
        asked = (self.model, self.threads)
        if getattr(self, "_loaded", (None, None))[0] != asked:
            if self.model is None:
                raise InputError(
                    'model is None; pass the folder of a packed model, or its name on the hub: "owner/name"'
                )
            ensemble = self.model
            if not isinstance(ensemble, Ensemble):
                ensemble = Ensemble.from_pretrained(self.model, threads=self.threads)
            if ensemble.config.problem_type != "single_label_classification":
                problem = ensemble.config.problem_type.replace("_", " ")
                raise InputError(f"this model is for {problem}; a classifier needs one whose labels exclude each other")
            self._loaded = (asked, ensemble)
        found: Ensemble = self._loaded[1]
        return found

    def _names(self) -> NDArray:
        """What the outputs are called, in the order of the model."""
        known: NDArray | None = getattr(self, "labels_", None)
        return self._labels(None) if known is None else known

    def _labels(self, seen: NDArray | None) -> NDArray:
        """Names for the outputs of the model, one of which each label seen must be."""
        own = self._ensemble().config.labels
        names = np.array(own if self.labels is None else self.labels)
        if len(names) != len(own) or len(np.unique(names)) != len(own):
            raise InputError(
                f"labels are {names.tolist()}; accepted are {len(own)} different ones, for the model's {', '.join(own)}"
            )
        if seen is None:
            return names
        strange = [label for label in seen.tolist() if label not in names.tolist()]
        if strange and self.labels is None and np.issubdtype(seen.dtype, np.number):
            numbers = np.arange(len(own), dtype=seen.dtype)
            strange, names = [label for label in seen.tolist() if label not in numbers.tolist()], numbers
        if strange:
            raise InputError(
                f"y holds {strange[0]!r:.80}, which this model never answers; accepted are {', '.join(own)}, or 0 to "
                f"{len(own) - 1}; what else they are called say with labels="
            )
        return names

    def _answers(self, X: Any) -> tuple[Ensemble, list[Any]]:
        ensemble, texts = self._ensemble(), self._texts(X, reset=False)
        return ensemble, ensemble.predict(texts, long=self.long)

    def _texts(self, X: Any, reset: bool) -> list[Any]:
        """X as a list of texts or pairs of texts; reset: keep how many columns it has, else compare."""
        if isinstance(X, str) or X is None or hasattr(X, "toarray"):
            kind = f"sparse, a {type(X).__name__}" if hasattr(X, "toarray") else f"a {type(X).__name__}"
            raise InputError(f"X is {kind}; accepted are a list or array of texts, or of pairs of texts")
        values = np.asarray(X, dtype=object)
        if values.ndim == 2 and (reset or hasattr(self, "n_features_in_")):
            validate_data(self, X if hasattr(X, "columns") else values, reset=reset, skip_check_array=True)
        if values.ndim == 2 and not values.shape[1]:
            raise InputError(f"X has 0 feature(s) (shape={values.shape}) while a minimum of 1 is required: texts")
        if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] not in (1, 2)):
            shape = " × ".join(map(str, values.shape)) or "no list"
            raise InputError(f"X is {shape}; accepted are texts [n] or [n, 1], and pairs [n, 2]. Reshape your data")
        if not len(values):
            raise InputError("X has 0 sample(s), while a minimum of 1 is required; pass at least one text")
        for row, value in enumerate(values.ravel()):
            if not isinstance(value, str):
                place = row // (values.size // len(values))
                raise InputError(f"X[{place}] is {value!r:.80}; accepted are texts (str), no numbers, NaN or inf")
        if values.ndim == 2 and values.shape[1] == 2:
            return [(str(one), str(other)) for one, other in values]
        return [str(text) for text in values.ravel()]
