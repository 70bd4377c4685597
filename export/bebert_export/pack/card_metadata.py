"""The front matter of a model card: what the hub shows and searches, in the words of its page on model cards.

Only what is known stands there. Metrics are those that were measured on packed bits; data that people own, such as
texts of the training file, never gets into the card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bebert_infer.artifact.config import Config

NAME = "binary-ensemble-bert"  # of the model in `model-index`; the hub shows the repository's
EXAMPLE = "a gripping, funny film"
# Our metrics -> identifier and name on the hub.
METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "f1": ("f1", "F1"),
    "micro_f1": ("f1", "Micro F1"),
    "matthews": ("matthews_correlation", "Matthews correlation"),
    "pearson": ("pearsonr", "Pearson correlation"),
    "spearman": ("spearmanr", "Spearman correlation"),
}
# https://huggingface.co/docs/hub/repositories-licenses; another text is "other" to the hub, and stands in the card.
LICENCES = frozenset(
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 "
    "bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc "
    "cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 "
    "cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 "
    "cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 "
    "eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc intel-research lppl-1.3c ms-pl mpl-2.0 "
    "odc-by odbl openmdw-1.0 osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr unknown other".split()
)


@dataclass(frozen=True)
class Measured:
    """Scores of the model on a data set.

    dataset : id on the hub, or the kind of file (csv, json, parquet), as `datasets.load_dataset` calls it
    name    : for people;  config, split : as on the hub
    scores  : of the ensemble, by our names of metrics
    """

    dataset: str
    name: str
    scores: Mapping[str, float]
    config: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class CardFacts:
    """What only the maker of a model knows; what is empty does not stand in the card.

    licence    : an identifier of the hub, or any text
    languages  : codes like "en";  base_models, datasets : ids on the hub
    example    : text for the hub's widget
    """

    licence: str | None = None
    languages: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    example: str | None = None
    measured: Measured | None = field(default=None)


def front_matter(config: Config, facts: CardFacts) -> str:
    """The YAML of a card, without its lines of hyphens."""
    from huggingface_hub import EvalResult, ModelCardData  # its writer and its checks, for its readers

    licence = None if facts.licence is None else facts.licence.strip().lower()
    if licence is not None and licence not in LICENCES:
        licence = "other"
    results = []
    if (measured := facts.measured) is not None:
        known = {name: value for name, value in measured.scores.items() if name in METRICS}
        results = [
            EvalResult(
                task_type="text-classification",
                task_name="Text Classification",
                dataset_type=measured.dataset,
                dataset_name=measured.name,
                dataset_config=measured.config,
                dataset_split=measured.split,
                metric_type=METRICS[name][0],
                metric_name=METRICS[name][1],
                metric_value=round(float(value), 4),
            )
            for name, value in known.items()
        ]
    example = None if config.tokenizer is None else [{"text": facts.example or EXAMPLE}]
    data = ModelCardData(
        language=list(facts.languages) or None,
        license=licence,
        library_name="bebert-infer",
        pipeline_tag="text-classification",
        tags=["binary-bert", "bebert"],
        base_model=list(facts.base_models) or None,
        datasets=list(facts.datasets) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        widget=example,
        eval_results=results or None,
        model_name=NAME if results else None,
    )
    return data.to_yaml()
