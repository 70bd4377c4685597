"""A library gives the bits that Numba gives on its level, wants only libc and libm, and is the same when made again."""

import os
import platform
from pathlib import Path

import pytest
from filelock import FileLock
from libraries import ROOT, copy_package, libraries_of, present_level, run

from bebert_kernels.abi.stage import STAGES
from bebert_kernels.ahead.library import ARCHITECTURES, INDEX, PREFIX
from bebert_kernels.compile.libraries import build, targets_of
from bebert_kernels.compile.object_file import CPUS
from bebert_kernels.cpu import isa

# What may stay open in a library: the C library and its mathematics, as old as manylinux_2_17 has them.
# A CPU without an instruction that rounds (below SSE4.1) asks for rintf.
WANTED = set("clock_gettime erf memcpy memmove memset rintf sched_getcpu sched_yield syscall tanh".split())
GLIBC = (2, 17)

# Prints a hash of every model's logits. Numba gets the level by BEBERT_ISA, the library is the only one that there is.
LOGITS = f"""
import hashlib, sys
from pathlib import Path
import numpy as np
from bebert_infer import Ensemble
from bebert_infer.cli.demo import SENTENCES
from bebert_infer.measure.sample_models import demo_path, random_model
from bebert_kernels.machine_code import library

def show(name, logits):
    print(name, hashlib.sha256(logits.tobytes()).hexdigest())

show("from " + ("Numba" if library() is None else "library"), np.empty(0))
model = Ensemble.from_pretrained(demo_path(), threads=1)
encoded = model.encode([sentence for sentence, _ in SENTENCES])
show("demo", model.member_logits(encoded.input_ids, encoded.attention_mask, encoded.token_type_ids))
frozen = Path({str(ROOT / "tests" / "data" / "artifacts" / "v1")!r})
for file in sorted(frozen.glob("*.npz")):
    stored = np.load(file)
    inputs = [stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    show(file.stem, Ensemble.from_pretrained(file.with_suffix(""), threads=1).member_logits(*inputs))
random = np.random.default_rng(0)
lengths = [1, 2, 7, 31, 64]
ids, mask = random.integers(1, 99, (len(lengths), 64)), np.arange(64) < np.array(lengths)[:, None]
for scheme in ("1-1-1", "1-1-4", "1-1-8", "2-2-8"):
    model = Ensemble(random_model("tiny", scheme, 2, vocab_size=99), threads=1)
    show(scheme, model.member_logits(ids * mask, mask.astype(np.int64), np.zeros_like(ids)))
"""


def check_bits(libraries: Path, target: Path, architecture: str, level: str, **environment: str) -> None:
    """Compare a library with Numba on the same level, each in a process of its own."""
    kernels = copy_package(target / level, libraries, [(architecture, level)])
    ahead = run(LOGITS, kernels, numba=False, BEBERT_ISA=level, BEBERT_KERNELS="ahead", **environment)
    jit = run(LOGITS, kernels, BEBERT_ISA=level, BEBERT_KERNELS="jit", BEBERT_QUIET="1", **environment)
    assert ahead.returncode == 0 and jit.returncode == 0, ahead.stderr + jit.stderr
    first, *found = ahead.stdout.splitlines()
    origin, *expected = jit.stdout.splitlines()
    assert first.startswith("from library") and origin.startswith("from Numba") and len(found) > 15
    assert found == expected


def test_the_present_level_has_the_bits_of_numba(tmp_path):
    """Logits of the demo model, of every frozen model, and of random ones of every scheme."""
    pytest.importorskip("numba", reason="numba is not installed (extra jit)")
    check_bits(libraries_of([present_level()], tmp_path / "libraries"), tmp_path, *present_level())


@pytest.fixture(scope="module")
def all_libraries(tmp_path_factory):
    """Every level of every architecture, and the folder that they are in; built once for all processes that test."""
    for package in ("numba", "ziglang"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra dev)")
    targets = [(architecture, level) for architecture in CPUS for level in CPUS[architecture]]
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "all-libraries"
    with FileLock(f"{folder}.lock"):
        if not (folder / INDEX).exists():
            build(targets, folder)
    return targets, folder


@pytest.mark.long
@pytest.mark.parametrize("product", ["", "popcount", "bitsliced", "lookup"])
def test_every_level_of_this_machine_has_the_bits_of_numba(all_libraries, tmp_path, product):
    targets, folder = all_libraries
    runs = isa.available_levels(platform.machine(), isa.host_features())
    settings = {"BEBERT_PRODUCT": product} if product else {}
    levels = [target for target in targets if target[0] == ARCHITECTURES.get(platform.machine()) and target[1] in runs]
    assert levels
    for architecture, level in levels:
        check_bits(folder, tmp_path, architecture, level, **settings)


def check_symbols(library: Path) -> None:
    """A shared library that defines all stages and takes from outside only what WANTED has, from libc and libm."""
    elftools = pytest.importorskip("elftools.elf.elffile", reason="pyelftools is not installed (extra dev)")
    with library.open("rb") as stream:
        file = elftools.ELFFile(stream)
        table = list(file.get_section_by_name(".dynsym").iter_symbols())
        tags = file.get_section_by_name(".dynamic").iter_tags()
        needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
        sections = file.get_section_by_name(".gnu.version_r").iter_versions()
        versions = [version.name for _, names in sections for version in names]
    undefined = {symbol.name for symbol in table if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name}
    defined = {symbol.name for symbol in table if symbol["st_shndx"] != "SHN_UNDEF"}
    assert undefined <= WANTED and needed <= {"libc.so.6", "libm.so.6"}
    assert defined == {PREFIX + name for name in STAGES}
    numbers = [tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in versions]
    assert numbers and max(numbers)[:2] <= GLIBC, "manylinux_2_17 has no newer C library"
    assert not any(word in library.read_bytes() for word in (b"/site-packages", b"numba", str(ROOT).encode()))


def test_the_library_wants_only_libc_and_libm(tmp_path):
    folder = libraries_of([present_level()], tmp_path / "libraries")
    check_symbols(folder / f"{'-'.join(present_level())}.so")


@pytest.mark.long
def test_every_library_wants_only_libc_and_libm(all_libraries):
    targets, folder = all_libraries
    for target in targets:
        check_symbols(folder / f"{'-'.join(target)}.so")


@pytest.mark.long
def test_two_builds_of_a_level_are_the_same_bytes(tmp_path):
    """From other folders, with other seeds of Python's hashes and another cache of the linker."""
    for package in ("numba", "ziglang"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra dev)")
    made = []
    for name in ("one", "the_other_one"):
        kernels = copy_package(tmp_path / name)
        code = "from bebert_kernels.compile.libraries import build, targets_of; build(targets_of(['x86_64-avx2']))"
        done = run(code, kernels, PYTHONHASHSEED=str(len(name)), TMPDIR=str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        folder = kernels / "bebert_kernels" / "ahead" / "libraries"
        made.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert made[0] == made[1] and len(made[0]) == 2


@pytest.mark.parametrize("name", ["riscv64", "x86_64-avx1024", "aarch64-generic", ""])
def test_a_target_that_there_is_not_is_refused_in_one_sentence(name):
    with pytest.raises(
        ValueError, match=f'target is "{name}"; accepted are here, x86_64, aarch64, or one level, as x86'
    ):
        targets_of([name])
