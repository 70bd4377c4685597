"""Imports go one way, room by room and file by file; the runtime stays light, and no folder shadows a package."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "kernels": ROOT / "kernels" / "bebert_kernels",
    "infer": ROOT / "bebert_infer",
    "export": ROOT / "export" / "bebert_export",
}
HEAVY = {"torch", "transformers", "sklearn", "scipy", "matplotlib", "huggingface_hub", "accelerate", "datasets"}
HEAVY |= {"ray", "pyspark"}
MAY_NOT_IMPORT = {"kernels": HEAVY | {"tokenizers", "safetensors", "rich", "click", "msgspec"}, "infer": HEAVY}
MAY_IMPORT = {"infer.hub": {"huggingface_hub"}, "infer.sklearn": {"sklearn"}}
MAY_IMPORT |= {f"infer.ray.{file}": {"ray"} for file in ("capacity", "connection", "files", "worker")}
MAY_IMPORT |= {f"infer.spark.{file}": {"pyspark"} for file in ("frame", "send", "worker")}
COMPILERS = {"numba", "llvmlite"}

# Room -> rooms that it may use. A room is a folder with files, or a file that lies beside the folders; "kernels",
# "infer" and "export" are the __init__.py of the three packages. What is no key here is in no room.
# `optional.load_export` is the one door from infer to export: commands go through it when they are called.
PRODUCTS = "kernels.popcount kernels.bitsliced kernels.lookup"
ROOMS = {
    "kernels": "",
    "kernels.packing": "",
    "kernels.checks": "",
    "kernels.child_python": "",
    "kernels.private_folder": "",
    "kernels.cpu": "",
    "kernels.reference": "kernels.packing",
    "kernels.ahead": "kernels.cpu",
    "kernels.jit": "kernels kernels.cpu kernels.private_folder",
    "kernels.machine_code": "kernels.ahead kernels.jit kernels.cpu",
    "kernels.abi": "kernels.machine_code kernels.jit kernels.child_python kernels.packing",
    "kernels.compile": "kernels.abi kernels.ahead kernels.jit kernels.cpu",
    "kernels.emit": "kernels.abi kernels.jit",
    "kernels.rows": "kernels.emit kernels.abi kernels.jit kernels.machine_code kernels.reference kernels.packing",
    "kernels.attention": "kernels.rows kernels.emit kernels.abi kernels.jit kernels.machine_code kernels.reference "
    "kernels.packing",
    "kernels.bitsliced": "kernels.rows kernels.emit kernels.abi kernels.jit kernels.machine_code kernels.packing",
    "kernels.lookup": "kernels.bitsliced kernels.rows kernels.emit kernels.abi kernels.jit kernels.machine_code "
    "kernels.packing",
    "kernels.popcount": "kernels.bitsliced kernels.rows kernels.emit kernels.abi kernels.jit kernels.packing",
    "kernels.program": f"{PRODUCTS} kernels.attention kernels.rows kernels.emit kernels.abi kernels.jit "
    "kernels.reference kernels.packing",
    "kernels.tuning": f"kernels.program {PRODUCTS} kernels.machine_code kernels.abi kernels.emit kernels.cpu "
    "kernels.checks kernels.packing "
    "kernels.private_folder",
    "infer.errors": "",
    "infer.threads": "infer.errors",
    "infer.optional": "infer.errors",
    "infer.console": "infer.errors",
    "infer.atomic_files": "infer.errors",
    "infer.artifact": "infer.atomic_files infer.errors kernels.packing",
    "infer.limits": "infer.artifact infer.errors",
    "infer.combine": "infer.artifact",
    "infer.model": "infer.artifact infer.errors kernels.reference kernels.packing",
    "infer.text": "infer.limits infer.artifact infer.errors",
    "infer.early_exit": "infer.text infer.combine infer.artifact infer.errors",
    "infer.prediction": "infer.early_exit infer.text infer.combine infer.artifact",
    "infer.bulk": "infer infer.early_exit infer.prediction infer.text infer.atomic_files infer.errors",
    "infer.native": f"infer.model infer.artifact infer.threads infer.errors kernels.tuning kernels.program {PRODUCTS} "
    "kernels.attention kernels.rows kernels.abi kernels.machine_code kernels.checks kernels.reference kernels.packing",
    "infer.sklearn": "infer.ensemble infer.optional infer.errors",
    "infer.spark": "infer infer.ensemble infer.bulk infer.early_exit infer.text infer.optional infer.errors",
    "infer.backend": "infer.native infer.model infer.errors",
    "infer.hub": "infer.artifact infer.atomic_files infer.errors",
    "infer.token_model": "infer.backend infer.native infer.prediction infer.early_exit infer.model infer.text "
    "infer.combine infer.limits infer.artifact infer.threads infer.errors",
    "infer.ensemble": "infer.token_model infer.hub infer.prediction infer.early_exit infer.model infer.text "
    "infer.limits infer.artifact infer.errors",
    "infer": "infer.ensemble infer.limits infer.errors",
    "infer.measure": "infer.ensemble infer.native infer.model infer.artifact infer.threads infer.errors kernels.tuning "
    "kernels.machine_code kernels.ahead kernels.jit kernels.cpu kernels.reference kernels.packing",
    "infer.bench": "infer.measure infer.ensemble infer.backend infer.artifact infer.threads infer.optional "
    "infer.console infer.early_exit infer.errors kernels.private_folder kernels.child_python",
    "infer.bench.report": "infer.bench infer.optional infer.atomic_files infer.errors",
    "infer.server": "infer infer.bulk infer.measure infer.ensemble infer.early_exit infer.prediction infer.text "
    "infer.limits infer.artifact infer.errors",
    "infer.ray": "infer infer.bulk infer.ensemble infer.early_exit infer.text infer.limits infer.artifact "
    "infer.optional infer.threads infer.errors",
    "infer.cli": "infer infer.ray infer.server infer.hub infer.early_exit infer.bench.report infer.bench infer.measure "
    "infer.bulk infer.ensemble infer.model infer.text infer.limits infer.artifact infer.atomic_files infer.optional "
    "infer.console infer.threads infer.errors",
    "infer.__main__": "infer.cli",
    "export": "",
    "export.quiet_transformers": "",
    "export.distributed": "",
    "export.recipes": "infer.errors",
    "export.quantizers": "",
    "export.data": "export.quiet_transformers infer.artifact infer.bulk infer.atomic_files infer.errors "
    "kernels.private_folder",
    "export.atomic_writes": "export.distributed infer.atomic_files",
    "export.student": "export.quantizers infer.errors kernels.reference",
    "export.training": "export.student export.atomic_writes export.distributed export.data infer.errors",
    "export.pack": "export.student export.quantizers infer.measure infer.ensemble infer.model infer.artifact "
    "infer.errors kernels.packing",
    "export.packed_onnx": "infer.ensemble infer.model infer.artifact infer.atomic_files infer.errors "
    "kernels.reference kernels.packing",
    "export.checkpoints": "export.training export.student export.data export.quiet_transformers infer.artifact "
    "infer.errors kernels.child_python",
    "export.evaluation": "export.pack export.student export.data infer.ensemble infer.early_exit infer.combine "
    "infer.artifact infer.atomic_files",
    "export.augmentation": "export.checkpoints export.data export.quiet_transformers infer.errors",
    "export.pipeline": "export.pack export.evaluation export.checkpoints export.training export.student export.data "
    "export.distributed export.atomic_writes export.quiet_transformers infer.errors",
    "export.convert": "export.checkpoints export.pack export.data infer.artifact infer.atomic_files infer.errors",
    "export.evaluate": "export.evaluation export.data infer.ensemble infer.model infer.text infer.combine "
    "infer.artifact infer.errors",
    "export.peers": "export.packed_onnx export.training export.checkpoints export.data export.atomic_writes "
    "export.quiet_transformers infer.bench infer.artifact infer.atomic_files infer.errors",
    "export.train": "export.training export.pipeline export.evaluation export.checkpoints export.pack export.student "
    "export.data export.distributed export.atomic_writes infer.artifact infer.threads infer.errors",
    "export.augment": "export.augmentation export.data export.atomic_writes infer.threads infer.errors",
}


@cache
def modules() -> dict[str, Path]:
    """Name of every module of ours, as in "infer.bench.report.page", and its file; a room's __init__ has its name."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = file
    return found


def room_of(module: str) -> str:
    """The folder of a module, or itself if it lies beside the folders of its package or is an __init__."""
    if modules()[module].name == "__init__.py" or module.count(".") == 1:
        return module
    return module.rpartition(".")[0]


def names_imported(file: Path) -> Iterator[str]:
    """Full names in all imports of a file: at its top, in functions, under TYPE_CHECKING, and by a written name."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports relatively; full names only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (value.value for value in node.args[:1] if isinstance(value, ast.Constant))


@cache
def imports_of(module: str) -> frozenset[str]:
    """Modules of ours that a module imports."""
    found = set()
    for name in names_imported(modules()[module]):
        if name.startswith("bebert_"):
            name = name.removeprefix("bebert_")
            known = name if name in modules() else name.rpartition(".")[0]
            assert known in modules(), f"{module} imports bebert_{name}, which is not there"
            found.add(known)
    return frozenset(found - {module})


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972): each is a circle."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        path.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
            if other in path:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            part = path[path.index(node) :]
            del path[path.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in order:
            visit(node)
    return found


def test_every_file_is_in_a_room_and_no_room_is_empty():
    assert len(modules()) > 200, "rooms are looked into, too"
    found = {room_of(module) for module in modules() if not _only_a_docstring(module)}
    assert found == set(ROOMS)


def _only_a_docstring(module: str) -> bool:
    """A room's __init__ that imports nothing needs no line of its own; with one it is the room's own file."""
    return modules()[module].name == "__init__.py" and "." in module and not imports_of(module)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_only_the_rooms_below_it(room):
    allowed = set(ROOMS[room].split()) | {room}
    for module in modules():
        if room_of(module) == room:
            strange = {other for other in imports_of(module) if room_of(other) not in allowed}
            assert not strange, f"{module} imports {', '.join(sorted(strange))}, and {room} may not"


# Child processes import through the first two, which stay empty; the third gathers classes.
UNSPOKEN = {"export.checkpoints", "export.peers", "export.quantizers"}


@pytest.mark.parametrize("room", [room for room in ROOMS if "." in room and room not in UNSPOKEN])
def test_a_room_says_which_of_its_files_others_use(room):
    if modules().get(room, Path()).name != "__init__.py":
        return  # a single file
    said = re.search(r"^__all__ = (\[.*?\])$", modules()[room].read_text("utf-8"), re.DOTALL | re.MULTILINE)
    public = {f"{room}.{name}" for name in ast.literal_eval(said[1])} if said else set()
    used = {other for module in modules() if room_of(module) != room for other in imports_of(module)}
    used = {other for other in used if room_of(other) == room} - {room}
    assert used <= public, f"say so in __all__ of {room}"
    assert public <= set(modules()), f"__all__ of {room} names what is not there"


def test_no_rooms_go_round_in_a_circle():
    assert circles({room: allowed.split() for room, allowed in ROOMS.items()}) == []


@pytest.mark.parametrize("room", ["program", "popcount", "bitsliced", "lookup", "attention", "abi", "rows"])
def test_the_engine_alone_knows_its_stages(room):
    assert [user for user in ROOMS if f"kernels.{room}" in ROOMS[user].split() and "kernels" not in user] == [
        "infer.native"
    ]


def test_no_files_go_round_in_a_circle():
    """Imports in functions count: they only hide a circle."""
    assert circles({module: imports_of(module) for module in modules()}) == []


def test_circles_are_found():
    assert circles({"a": "b", "b": "c", "c": "b", "d": "ea", "e": ""}) == [["b", "c"]]
    assert circles({"a": "b", "b": "c", "c": "a"}) == [["a", "b", "c"]]


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_no_file_imports_what_its_level_must_not_know(package):
    for module, file in modules().items():
        if module.split(".")[0] == package:
            allowed = MAY_IMPORT.get(
                module, set()
            )  # when it is called for; the tests below say what that spares others
            forbidden = {name.split(".")[0] for name in names_imported(file)} & MAY_NOT_IMPORT[package] - allowed
            assert not forbidden, f"{module} imports {forbidden}"


@pytest.mark.parametrize("room", ["kernels.packing", "kernels.checks", "kernels.reference", "infer.model"])
def test_the_truth_needs_no_compiler(room):
    for module, file in modules().items():
        if room_of(module) == room:
            assert not {name.split(".")[0] for name in names_imported(file)} & COMPILERS, module


def test_bebert_infer_reaches_export_by_one_door_only():
    """Commands load bebert_export through optional.load_export, which says what to install where torch is missing."""
    for module, file in modules().items():
        if module.startswith("infer"):
            assert not [name for name in names_imported(file) if name.startswith("bebert_export")], module


def _loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_whoever_installs_the_peers_can_run_them():
    """Peers are made by the code of the extra export; without accelerate `bebert bench` once ended at its start."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        extras = tomllib.load(stream)["project"]["optional-dependencies"]
    for name in ("bench", "train"):
        own = [line for line in extras[name] if line.startswith("bebert-infer[")]
        assert own and "export" in own[0].removeprefix("bebert-infer[").rstrip("]").split(",")


def test_whoever_runs_a_peer_alone_needs_nothing_of_ours():
    """`bebert bench` runs this file in an environment without us; its load time and memory are compared with ours."""
    assert not imports_of("export.peers.loaders")
    loaded = _loaded("import bebert_export.peers.loaders")
    assert not loaded & (HEAVY | {"bebert_infer", "bebert_kernels", "tokenizers"})


def test_importing_the_runtime_loads_neither_torch_nor_numba():
    loaded = _loaded("import bebert_infer")
    assert not loaded & (HEAVY | {"bebert_export", "numba", "pyarrow"})


def test_classifying_needs_no_torch():
    statement = (
        "import numpy; from bebert_infer import Ensemble; from bebert_infer.measure.sample_models import random_model; "
        "Ensemble(random_model('tiny', '1-1-4', 1, vocab_size=9)).logits([[1, 2]])"
    )
    # numba itself looks whether scipy is there
    assert not _loaded(statement) & (HEAVY - {"scipy"} | {"bebert_export"})


def test_a_model_of_a_folder_needs_no_code_of_the_hub():
    statement = (
        "from bebert_infer import Ensemble; from bebert_infer.measure.sample_models import demo_path; "
        "Ensemble.from_pretrained(demo_path())('a gripping, funny film')"
    )
    assert not _loaded(statement) & (HEAVY - {"scipy"} | {"httpx", "httpx2", "yaml"})


def test_importing_the_kernels_does_not_load_the_runtime():
    assert "bebert_infer" not in _loaded("import bebert_kernels.reference.integers, bebert_kernels.packing")


def test_import_takes_less_than_half_a_second():
    """The best of three, in CPU time, since other load on a test machine is not ours."""
    code = "import time; t = time.process_time(); import bebert_infer; print(time.process_time() - t)"
    command = [sys.executable, "-c", code]
    times = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(times) < 0.5


def test_no_top_level_folder_shadows_a_package_of_that_name():
    """Transformers imports the PyPI package `kernels`; a kernels/__init__.py here would break BertModel."""
    for name in ("kernels", "export", "benchmarks", "tests"):
        assert not (ROOT / name / "__init__.py").exists(), f"{name}/ must stay a plain folder"
    for name in ("benchmarks", "tests"):
        found = [path for path in (ROOT / name).rglob("kernels*") if path.is_dir() or path.suffix == ".py"]
        assert not found, "scripts beside it would import it"


def test_transformers_bert_works_in_the_repository_root():
    pytest.importorskip("transformers")
    code = (
        "import sys; sys.path.insert(0, '.'); from transformers import BertConfig, BertModel; "
        "BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, "
        "intermediate_size=8))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_the_help_needs_no_numpy():
    """`bebert --help` answers in the time of its own libraries; numpy alone takes as long again."""
    assert not _loaded("import bebert_infer, bebert_infer.cli.main") & {"numpy", "tokenizers", "msgspec", "numba"}
