"""Runs of `bebert bench` made up for tests: figures of a plausible size, any number of engines and lengths."""

from typing import Any

LENGTHS = (16, 32, 64, 128, 256, 512)
ENGINES = (  # name, kind, members, scheme, milliseconds at 128 tokens, MiB, accuracy
    ("PyTorch fp32", "fp32", None, None, 213.9, 418.1, 0.860),
    ("OpenVINO int8 NNCF", "int8", None, None, 56.4, 106.2, 0.851),
    ("1-1-4 half width, 2 members", "packed", 2, "1-1-4", 65.8, 36.5, 0.852),
    ("ONNX Runtime fp32", "fp32", None, None, 181.2, 417.9, 0.860),
    ("OpenVINO fp32", "fp32", None, None, 163.8, 419.0, 0.860),
    ("PyTorch int8 dynamic", "int8", None, None, 102.5, 173.4, 0.853),
    ("ONNX Runtime int8 dynamic", "int8", None, None, 76.4, 105.5, 0.848),
    ("PyTorch bf16", "bf16", None, None, 120.3, 418.1, 0.860),
    ("1-1-1, 1 member", "packed", 1, "1-1-1", 17.2, 15.2, 0.710),
    ("1-1-4 half width, 1 member", "packed", 1, "1-1-4", 31.9, 18.3, 0.849),
    ("1-1-4 full width, 1 member", "packed", 1, "1-1-4", 57.9, 28.6, 0.850),
    ("1-1-2, 1 member", "packed", 1, "1-1-2", 29.8, 15.2, 0.801),
)
OPERATIONS = {
    "query, key, value": 4.9,
    "attention output": 1.9,
    "intermediate": 6.8,
    "output": 7.1,
    "pooler": 0.02,
    "embeddings": 0.3,
    "codes": 1.4,
    "attention": 3.3,
    "softmax": 0.9,
    "norm": 1.2,
    "activation": 0.6,
    "head": 0.01,
}
KINDS = {
    "word embedding signs (1 bit)": 0.155,
    "matrix signs (1 bit)": 0.70,
    "word embedding scales": 0.008,
    "position and type tables": 0.09,
    "scales, steps and shifts": 0.001,
    "classifier": 0.0004,
    "biases and LayerNorms": 0.03,
    "config and tokenizer": 0.0156,
}
GEOMETRY = {
    "layers": 12,
    "hidden": 768,
    "heads": 12,
    "intermediate": 3072,
    "vocabulary": 30522,
    "positions": 512,
    "labels": 2,
}


def bench_run(
    count: int = 12,
    lengths: tuple[int, ...] = LENGTHS,
    threads: tuple[int, ...] = (2,),
    groups: tuple[str, ...] = ("BERT-base",),
    accuracy: bool = True,
) -> dict[str, Any]:
    """Plain JSON values of a run with the first `count` engines in every group."""
    run: dict[str, Any] = {
        "format": "bebert-bench",
        "version": 2,
        "date": "2026-11-21",
        "commit": "af4042d",
        "version_of_bebert": "0.1.0",
        "machine": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz (cpu family 6, model 85, stepping 7)",
            "cores": 2,
            "memory_bytes": 25276514304,
            "isa": "avx512bw",
            "products": {"1×1": "xnor", "1×4": "sliced", "4×4": "bytes"},
            "python": "3.11.7",
            "versions": {"numpy": "2.4.6", "numba": "0.68.1", "torch": "2.13.0+cpu", "openvino": None},
        },
        "settings": {
            "lengths": list(lengths),
            "batches": [8, 32],
            "batch_tokens": 128,
            "threads": list(threads),
            "rounds": 7,
            "quick": False,
            "data": "dev.tsv" if accuracy else None,
        },
        "cores_of_others": 0.05,
        "import_numpy_s": 0.16,
        "groups": [
            {
                "name": name,
                "title": "12 layers, random weights",
                "geometry": GEOMETRY,
                "left_out": [1024],
                "start_of": 'the text "good"',
            }
            for name in groups
        ],
        "notes": ["left out, because --quick had no time left: nothing"],
        "missing": {"NNCF int8": 'not installed: pip install "bebert-infer[bench]"'},
        "energy": "not available on this machine",
        "engines": [],
        "latency": [],
        "throughput": [],
        "texts": [],
        "time_by_operation": [],
    }
    for number, group in enumerate(groups):
        for engine in ENGINES[:count]:
            _add(run, group, engine, 1 / (1 + 9 * number), accuracy)
    return run


def _add(run: dict[str, Any], group: str, engine: tuple, scale: float, accuracy: bool) -> None:
    name, kind, members, scheme, ms, mib, score = engine
    size, packed = int(mib * scale * 2**20), kind == "packed"
    named = {"group": group, "engine": name}
    run["engines"].append(
        {
            "group": group,
            "name": name,
            "kind": kind,
            "members": members,
            "scheme": scheme,
            "random_weights": packed and not accuracy,
            "bytes": size,
            "bytes_by_kind": {key: int(share * size) for key, share in KINDS.items()} if packed else None,
            "operations": {"1×4": 1.09e10, "4×4": 3.0e8, "fp32": 7.7e7} if packed else {"fp32": 2.24e10},
            "operations_tokens": 64,
            "flops_paper": 1.5e9 if packed else 2.25e10,
            "accuracy": {"metric": "accuracy", "value": score, "rows": 872} if accuracy else None,
            "load_s": 0.62 if packed else 2.9,
            "first_answer_s": 1.4 if packed else 3.6,
            "peak_rss_bytes": int(1.7 * size) + 150 * 2**20,
            "install_bytes": 117 * 2**20 if packed else 903 * 2**20,
            "install_packages": ["bebert-infer 0.1.0", "numpy 2.4.6"] if packed else ["torch 2.13.0+cpu"],
        }
    )
    settings = run["settings"]
    for threads in settings["threads"]:
        for tokens in settings["lengths"]:
            median = scale * ms * (0.04 + 0.96 * (tokens / 128) ** 1.08) * (2 / threads) ** 0.7
            times = {"median_ms": median, "p10_ms": 0.96 * median, "p90_ms": 1.06 * median, "calls": 21}
            run["latency"].append(named | {"threads": threads, "tokens": tokens, "batch": 1, "joules": None} | times)
        for batch in settings["batches"]:
            median = batch * scale * ms * 0.9 * (2 / threads) ** 0.7
            times = {"median_ms": median, "p10_ms": 0.96 * median, "p90_ms": 1.06 * median, "calls": 9}
            rate = {"sentences_per_s": 1e3 * batch / median}
            run["throughput"].append(named | {"threads": threads, "tokens": 128, "batch": batch} | times | rate)
        for early in (None, "exact") if accuracy and packed else [None] if accuracy else []:
            median = scale * ms * (0.11 if early else 0.2)
            ran = {"early_exit": early, "members_run": members * (0.6 if early else 1.0) if packed else None}
            row = {"texts": 32, "mean_tokens": 27.6, "median_ms": median, "p10_ms": 0.97 * median}
            run["texts"].append(named | {"threads": threads, "p90_ms": 1.1 * median, "calls": 3} | row | ran)
    if packed:
        whole = sum(OPERATIONS.values())
        for operation, part in OPERATIONS.items():
            row = {"operation": operation, "calls": 12, "ms": ms * scale * part / whole, "share": part / whole}
            run["time_by_operation"].append(named | row)
