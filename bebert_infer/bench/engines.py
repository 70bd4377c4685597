"""The engines of a run: packed model folders and peers, how each is loaded, and what is known without measuring."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebert_infer.artifact.folder import CONFIG, TENSORS, TOKENIZER, Artifact, read_artifact, write_artifact
from bebert_infer.bench.turns import FULL_PRECISION, INT4, INT8, PACKED_ONNX, Call, Geometry, parent_geometry
from bebert_infer.measure.cost import bytes_by_kind, count_operations, operations, products_by_bits
from bebert_infer.measure.machine import machine_code
from bebert_infer.measure.paper_cost import paper_figures
from bebert_infer.optional import load_export

PACKED = "packed"
OnTokens = Callable[[NDArray[np.int64]], Call]  # ids int64[B, T] without padding -> a call that classifies them


@dataclass(frozen=True)
class Engine:
    """Something that classifies token ids.

    kind   : "packed", "fp32", "bf16", "int8" or "int4";  folder : of its files
    facts  : fields of the record that need no measuring
    """

    group: str
    name: str
    kind: str
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def load(self, threads: int) -> OnTokens:
        """Load the files. No engine has a tokenizer here: all take token ids."""
        if self.kind != PACKED:
            load: Callable[[Path, int], OnTokens] = load_export("peers.engines").PEERS[self.name].load
            return load(self.folder, threads)
        from bebert_infer.ensemble import Ensemble

        ensemble = Ensemble(replace(read_artifact(self.folder), tokenizer_json=None), threads=threads)
        return lambda ids: lambda: ensemble.logits(ids)

    def runtime(self) -> tuple[str, ...]:
        """What its user installs; ours compiles nothing where the package has kernels for this CPU."""
        if self.kind != PACKED:
            installed: tuple[str, ...] = load_export("peers.engines").PEERS[self.name].runtime
            return installed
        return ("bebert-infer",) if machine_code()["from"] == "library" else ("bebert-infer[jit]",)


@dataclass(frozen=True)
class EngineGroup:
    """Packed models that replace the same full-precision BERT, compared with its peers.

    packed         : name -> (model folder, whether its weights are random)
    vocabulary, positions : token ids and lengths that all of its engines take
    full_precision : folder of the parent's weights; None gives the peers random ones
    data           : labelled file for accuracy
    """

    name: str
    title: str
    geometry: Geometry
    packed: dict[str, tuple[Path, bool]]
    vocabulary: int
    positions: int
    full_precision: Path | None = None
    data: Path | None = None

    @property
    def first_packed(self) -> Path | None:
        """The folder of the first packed model, which a peer runs as ONNX."""
        return next((folder for folder, _ in self.packed.values()), None)

    @property
    def tokenizer(self) -> Path | None:
        """The file that texts are read with, None where its packed models take token ids only."""
        for folder, _ in self.packed.values():
            return folder / TOKENIZER if (folder / TOKENIZER).is_file() else None
        return None

    def lengths(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Those lengths that fit into the model's positions."""
        return tuple(length for length in wanted if length <= self.positions)

    def tokens(self, wanted: int) -> int:
        """Sentence length for throughput, operations and first answers: as wanted, or all positions."""
        return min(wanted, self.positions)

    def packed_engines(self, tokens: int) -> list[Engine]:
        """The packed models with their facts; operations for a sentence of `tokens` tokens."""
        return [
            Engine(self.name, name, PACKED, folder, _packed_facts(read_artifact(folder), tokens, random))
            for name, (folder, random) in self.packed.items()
        ]


def model_group(folder: Path, name: str, title: str, data: Path | None, full_precision: Path | None) -> EngineGroup:
    """One packed model of the user's against its full-precision parent."""
    config = read_artifact(folder).config
    geometry = parent_geometry(config)
    if full_precision is not None:
        geometry = load_export("peers.files", extra="bench").geometry_of(full_precision)
    engine = f"bebert {_scheme(config.members)}, {_members(len(config.members))}"
    words = min(geometry.vocabulary, config.vocab_size)
    positions = min(geometry.positions, config.max_position_embeddings)
    return EngineGroup(name, title, geometry, {engine: (folder, False)}, words, positions, full_precision, data)


def random_group(artifacts: dict[str, Artifact], name: str, title: str, folder: Path) -> EngineGroup:
    """Models with random weights, written into `folder` so that they are loaded as any other."""
    packed = {}
    for number, (engine, artifact) in enumerate(artifacts.items()):
        path = folder / f"{name} {number}"
        write_artifact(path, artifact.config, artifact.tensors, None, "Random weights, for `bebert bench`.\n")
        packed[engine] = (path, True)
    geometry = parent_geometry(next(iter(artifacts.values())).config)
    return EngineGroup(name, title, geometry, packed, geometry.vocabulary, geometry.positions)


def engine_name(scheme: str, half_width: bool, members: int) -> str:
    """What tables call a packed engine."""
    return f"bebert {scheme}{' half' if half_width else ''}, {_members(members)}"


def peer_facts(group: EngineGroup, name: str, kind: str, folder: Path, tokens: int) -> dict[str, Any]:
    """Facts of a peer: bytes of its files, and operations by the precision that it runs them in."""
    size = sum(file.stat().st_size for file in folder.iterdir())
    if kind == PACKED_ONNX:
        return _packed_onnx_facts(group, size, tokens)
    g = group.geometry
    work = count_operations(g.layers, g.hidden, g.hidden, g.intermediate, tokens)
    if kind in (INT8, INT4):
        # Dynamic quantization, and that to 4-bit weights, takes the linear layers only; NNCF's for transformers takes
        # the products of attention as well.
        eight = work.linear + (work.attention if "NNCF" in name else 0)
        rest = 2 * (work.linear + work.attention - eight) + work.elementwise
        by_kind = {"4×8" if kind == INT4 else "8×8": eight, "fp32": rest}
    else:
        by_kind = {"fp32" if kind == FULL_PRECISION else kind: work.full_precision_flops}
    return {
        "members": None,
        "scheme": None,
        "random_weights": group.full_precision is None,
        "bytes": size,
        "bytes_by_kind": None,
        "operations": by_kind,
        "operations_tokens": tokens,
        "flops_paper": work.full_precision_flops if kind == FULL_PRECISION else None,
    }


def _packed_facts(artifact: Artifact, tokens: int, random: bool) -> dict[str, Any]:
    config = artifact.config
    files = {name: (artifact.path / name).stat().st_size for name in (CONFIG, TENSORS)}
    kinds = bytes_by_kind(artifact.tensors)
    kinds["names and shapes of tensors, config.json"] = sum(files.values()) - sum(kinds.values())
    by_bits: dict[str, float] = {}
    for member in config.members:
        work = products_by_bits(member, tokens) | {"fp32": operations(member, tokens).elementwise}
        for kind, count in work.items():
            by_bits[kind] = by_bits.get(kind, 0) + count
    papers = next(figure.paper for figure in paper_figures(config, tokens) if figure.what == "operations")
    return {
        "members": len(config.members),
        "scheme": _scheme(config.members),
        "random_weights": random,
        "bytes": sum(files.values()),
        "bytes_by_kind": kinds,
        "operations": by_bits,
        "operations_tokens": tokens,
        "flops_paper": 1e9 * papers,
    }


def _packed_onnx_facts(group: EngineGroup, size: int, tokens: int) -> dict[str, Any]:
    """Facts of the group's first packed model as ONNX: every product has 8 bits there."""
    folder, random = next(iter(group.packed.values()))
    facts = _packed_facts(read_artifact(folder), tokens, random)
    rest = facts["operations"].pop("fp32")
    work = {"8×8": sum(facts["operations"].values()), "fp32": rest}
    return facts | {"bytes": size, "bytes_by_kind": None, "operations": work, "flops_paper": None}


def _scheme(members: list[Any]) -> str:
    return "/".join(dict.fromkeys(member.scheme for member in members))


def _members(count: int) -> str:
    return f"{count} member{'s' if count > 1 else ''}"
