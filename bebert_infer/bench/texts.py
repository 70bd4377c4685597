"""Real texts of a labelled file, one after the other: what early exit saves, beside the peers on the same tokens.

Texts of the file at even distances, tokenized once; every engine classifies all of them in its turn, one by one, as
they come in a service. Milliseconds are those of a pass divided by its texts, without tokenizing: that is the same for
all.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_infer.bench.engines import PACKED, Engine, OnTokens
from bebert_infer.bench.turns import Call, spread, take_turns
from bebert_infer.early_exit import BOUNDED, EXACT
from bebert_infer.ensemble import Ensemble
from bebert_infer.optional import load_export

TEXTS = 32
Asked = tuple[str, str | None]  # the engine, and its early exit


def text_rows(
    engines: list[Engine], opened: Mapping[str, OnTokens], data: Path, threads: int, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """One row an engine: median milliseconds of a text and, of ours, the members that ran on average.

    opened : engines that could be loaded     rounds, seconds : as of `take_turns`
    Empty where no packed engine has a tokenizer.
    """
    ensembles = {
        engine.name: Ensemble.from_pretrained(engine.folder, threads=threads)
        for engine in engines
        if engine.kind == PACKED and engine.name in opened
    }
    reader = next((one for one in ensembles.values() if one.tokenizer_json is not None), None)
    if reader is None:
        return []
    texts = [ids for ids in _token_ids(reader, data) if len(ids)]
    group = engines[0].group
    calls: dict[Asked, Call] = {
        (name, None): _pass([on_tokens(ids[None]) for ids in texts]) for name, on_tokens in opened.items()
    }
    run: dict[Asked, float] = {(name, None): float(len(ensemble.alphas)) for name, ensemble in ensembles.items()}
    for name, ensemble in ensembles.items():
        if len(ensemble.alphas) > 1 and ensemble.config.combination in BOUNDED:
            early = [partial(ensemble.predict_ids, ids[None], early_exit=EXACT) for ids in texts]
            calls[name, EXACT] = _pass(early)
            run[name, EXACT] = float(np.mean([call()[0].members_run for call in early]))
    times = take_turns(calls, rounds, calls_a_turn=1, seconds=seconds)
    size = len(texts)
    shape = {"threads": threads, "texts": size, "mean_tokens": float(np.mean([len(ids) for ids in texts]))}
    return [
        {"group": group, "engine": asked[0], "early_exit": asked[1]}
        | shape
        | spread([milliseconds / size for milliseconds in found.ms])
        | {"members_run": run.get(asked)}
        for asked, found in times.items()
    ]


def _token_ids(ensemble: Ensemble, data: Path) -> list[NDArray[np.int64]]:
    """Token ids of some texts of the file, each int64[T]; over-long ones are cut."""
    reports = load_export("evaluate")
    texts = reports.texts_of(reports.examples_of(data, ensemble.config, reports.task_of(None, ensemble.config)))
    chosen = np.unique(np.linspace(0, len(texts) - 1, min(TEXTS, len(texts))).astype(int))
    return [ensemble.encode([texts[index]], truncate=True).input_ids[0] for index in chosen]


def _pass(calls: Sequence[Call]) -> Call:
    def call() -> None:
        for one in calls:
            one()

    return call
