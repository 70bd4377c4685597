"""What `/info` tells: the model, the engine, and the server's limits; no path of this machine."""

from typing import Any

import bebert_infer
from bebert_infer.bulk.classify import model_digest
from bebert_infer.early_exit import BOUNDED, EXACT
from bebert_infer.ensemble import Ensemble
from bebert_infer.measure.machine import instruction_sets, machine_code
from bebert_infer.server.settings import Settings


def server_facts(ensemble: Ensemble, settings: Settings) -> dict[str, Any]:
    """Names that Text Embeddings Inference has too mean the same (`model_id` to `version`)."""
    config = ensemble.config
    names = list(config.labels)
    return {
        "model_id": ensemble.path.resolve().name,
        "model_sha": model_digest(config, ensemble.tokenizer_json),
        "model_type": {
            "classifier": {
                "id2label": {str(index): name for index, name in enumerate(names)},
                "label2id": {name: index for index, name in enumerate(names)},
            }
        },
        "max_input_length": config.tokenizer.max_length if config.tokenizer else None,
        "max_client_batch_size": settings.texts,
        "max_concurrent_requests": settings.connections,
        "auto_truncate": settings.long.policy == "truncate",
        "version": bebert_infer.__version__,
        "tensors_sha256": config.tensors_sha256,
        "problem_type": config.problem_type,
        "combination": config.combination,
        "members": len(ensemble.alphas),
        "alphas": ensemble.alphas.tolist(),
        "early_exit": _early_exit(ensemble),
        "engine": {"name": ensemble.backend, "threads": ensemble.threads, "threads_from": ensemble.threads_from},
        "kernels": _kernels(),
        "limits": {
            "body_bytes": settings.body_bytes,
            "texts": settings.texts,
            "characters": settings.characters,
            "queue": settings.queue,
            "long": settings.long.policy,
        },
    }


def _early_exit(ensemble: Ensemble) -> list[str]:
    """What requests may say."""
    if ensemble.config.problem_type == "regression":
        return []
    return [EXACT, "probability"] if ensemble.config.combination in BOUNDED else ["probability"]


def _kernels() -> dict[str, Any]:
    code = machine_code()
    kept = {name: code[name] for name in ("from", "level", "sha256", "sources") if name in code}
    return kept | {"instruction_sets": instruction_sets()["used"]}
