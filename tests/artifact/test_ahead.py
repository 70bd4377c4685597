"""Compiled kernels run if they are what was built from the sources beside them; all else is one sentence, or compiled.

Copies of the package are damaged, each in a folder of its own.
"""

import hashlib
import json
import platform
import re
from pathlib import Path

import pytest
from libraries import copy_package, libraries_of, present_level, run

from bebert_infer.measure.sample_models import demo_path
from bebert_kernels.ahead.library import INDEX, LibraryError, open_library
from bebert_kernels.cpu import isa

ANSWER = f"""
import sys
from bebert_infer.cli.main import main
sys.argv = ["bebert", "predict", {str(demo_path())!r}, "a gripping, funny film", "--json"]
main()
"""
WHICH = "from bebert_kernels.machine_code import library; print(library() and library().level)"
NEXT = "; install the package again, or pip install 'bebert-infer[jit]' and set BEBERT_KERNELS=jit to compile here"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return libraries_of([present_level()], tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def kernels(built, tmp_path) -> Path:
    """Folder of a sound copy of the package with the library of this machine."""
    return copy_package(tmp_path / "kernels", built, [present_level()])


def parts(kernels: Path) -> tuple[Path, Path]:
    """The library and the index of a copy."""
    folder = kernels / "bebert_kernels" / "ahead" / "libraries"
    return folder / f"{'-'.join(present_level())}.so", folder / INDEX


def flip_a_byte(kernels):
    library, _ = parts(kernels)
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def cut_the_library(kernels):
    library, _ = parts(kernels)
    library.write_bytes(library.read_bytes()[:1000])


def remove_the_library(kernels):
    parts(kernels)[0].unlink()


def a_folder_in_its_place(kernels):
    remove_the_library(kernels)
    parts(kernels)[0].mkdir()


def change_a_source(kernels):
    with (kernels / "bebert_kernels" / "packing.py").open("a") as stream:
        stream.write("# another one\n")


def add_a_source(kernels):
    (kernels / "bebert_kernels" / "rows" / "other.py").write_text("")


def write_index(content):
    def damage(kernels):
        parts(kernels)[1].write_text(content if isinstance(content, str) else json.dumps(content))

    return damage


def edit_index(change):
    def damage(kernels):
        index = json.loads(parts(kernels)[1].read_text())
        change(index)
        parts(kernels)[1].write_text(json.dumps(index))

    return damage


def no_library_at_all(kernels):
    remove_the_library(kernels)
    parts(kernels)[1].unlink()


OTHER_BYTES = r"\S+\.so has the sha256 [0-9a-f]{12}, it was built as [0-9a-f]{12}"
DAMAGES = {
    "a flipped byte": (flip_a_byte, OTHER_BYTES),
    "half a library": (cut_the_library, OTHER_BYTES),
    "no library": (remove_the_library, r"\S+\.so cannot be read \(No such file or directory\)"),
    "a folder": (a_folder_in_its_place, r"\S+\.so cannot be read \(Is a directory\)"),
    "a changed source": (
        change_a_source,
        r"the compiled kernels are of other sources \(.{12}, here are .{12}\)",
    ),
    "a new source": (add_a_source, r"the compiled kernels are of other sources \(.*\)"),
    "no JSON": (write_index("{"), r"\S+index.json cannot be read \(.*\)"),
    "deep JSON": (write_index("[" * 100_000), r"\S+index.json cannot be read \(.*\)"),
    "a list": (write_index([]), r"\S+index.json is damaged"),
    "no hash of the sources": (write_index({"libraries": {}}), r"\S+index.json is damaged"),
    "lists of levels": (write_index({"sources": "", "libraries": {"x86_64": []}}), r"\S+index.json is damaged"),
    "numbers": (write_index({"sources": "", "libraries": {"x86_64": {"avx2": 5}}}), r"\S+index.json is damaged"),
}
# Where no library was to be expected, compiling is no news.
UNSAID = {
    "another machine": (
        edit_index(lambda index: index.update(libraries={"riscv64": {"rvv": "0" * 64}})),
        f"the kernels of this package are for riscv64, this machine is {platform.machine()}",
    ),
    "none was built": (no_library_at_all, "this package came without compiled kernels"),
}


@pytest.mark.parametrize("damage", [*DAMAGES, *UNSAID])
def test_what_is_not_as_built_does_not_run(kernels, damage):
    """Without a compiler: one sentence, which says what to do. With one: compiled, and that is said."""
    harm, said = (DAMAGES | UNSAID)[damage]
    harm(kernels)
    done = run(ANSWER, kernels, numba=False)
    assert done.returncode and re.fullmatch(f"error: {said}{re.escape(NEXT)}\n", done.stderr), done.stderr
    pytest.importorskip("numba", reason="numba is not installed (extra jit)")
    done = run(ANSWER, kernels, BEBERT_KERNELS="ahead")
    assert done.returncode and re.fullmatch(f"error: {said}{re.escape(NEXT)}\n", done.stderr), done.stderr
    done = run(WHICH, kernels)
    assert done.stdout == "None\n"
    news = f"bebert: {said}{re.escape(NEXT)}; Numba is installed and compiles instead\n" if damage in DAMAGES else ""
    assert re.fullmatch(news, done.stderr), done.stderr
    assert run(WHICH, kernels, BEBERT_QUIET="1").stderr == ""


def test_a_library_that_cannot_be_loaded_is_said(kernels):
    """Its hash is right, and its bytes are those of no library."""
    library, _ = parts(kernels)
    library.write_bytes(b"no library")
    architecture, level = present_level()
    edit_index(
        lambda index: index["libraries"][architecture].update({level: hashlib.sha256(b"no library").hexdigest()})
    )(kernels)
    done = run(ANSWER, kernels, numba=False)
    assert re.fullmatch(rf"error: \S+\.so cannot be loaded \(.*\){re.escape(NEXT)}\n", done.stderr), done.stderr


def test_a_sound_library_answers_without_a_compiler(kernels):
    """Neither numba nor llvmlite can be imported; nothing is said, nothing is written."""
    done = run(ANSWER, kernels, numba=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert json.loads(done.stdout)[0]["label"] == "positive"
    assert run(WHICH, kernels, numba=False).stdout == f"{present_level()[1]}\n"


def test_with_a_sound_library_nothing_imports_the_compiler(kernels):
    done = run(
        f"{ANSWER.replace('main()', 'try: main()')}\nexcept SystemExit: pass\nprint('numba' in sys.modules)", kernels
    )
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr


def test_an_unknown_cpu_is_named_and_its_level_can_be_given(built, monkeypatch):
    """Where the operating system does not say what the CPU can do, nothing is guessed."""
    level = present_level()[1]
    monkeypatch.setattr(isa, "host_features", dict)
    monkeypatch.delenv("BEBERT_ISA", raising=False)
    said = "the operating system does not say what this CPU can do; set BEBERT_ISA to one of .*" + level
    with pytest.raises(LibraryError, match=said):
        open_library.__wrapped__(built)
    monkeypatch.setenv("BEBERT_ISA", level)
    found = open_library.__wrapped__(built)
    assert (found.level, found.why) == (level, "BEBERT_ISA")


def test_a_cpu_below_all_libraries_is_told_what_they_need(built, monkeypatch):
    monkeypatch.setattr(isa, "host_features", lambda: {"sse2": True})
    monkeypatch.delenv("BEBERT_ISA", raising=False)
    with pytest.raises(
        LibraryError, match=r"this CPU has sse2, the compiled kernels need more: they are for .*; install"
    ):
        open_library.__wrapped__(built)


def test_a_level_that_the_package_lacks_is_named_with_those_it_has(kernels):
    levels = [level for level in isa.available_levels(platform.machine(), isa.host_features())[:-1]]
    others = [level for level in levels if level != present_level()[1]]
    said = f'BEBERT_ISA is "{others[0]}"; this package has kernels for {present_level()[1]}: choose one of them'
    done = run(ANSWER, kernels, numba=False, BEBERT_ISA=others[0])
    assert done.returncode and done.stderr == f"error: {said}\n"
    done = run(WHICH, kernels, BEBERT_ISA=others[0])
    assert done.stdout == "None\n" and done.stderr == f"bebert: {said}; Numba is installed and compiles instead\n"
    done = run(ANSWER, kernels, numba=False, BEBERT_ISA="avx1024")
    unknown = 'error: BEBERT_ISA is "avx1024", which is unknown; accepted on this CPU: '
    assert done.returncode and done.stderr == f"{unknown}{present_level()[1]}, native\n"


def test_doctor_lists_the_levels_that_are_accepted(kernels):
    """Without a compiler those of the package; with one all that the CPU runs, unless it must not compile."""
    here = isa.available_levels(platform.machine(), isa.host_features())
    asked = "import json; from bebert_infer.measure import machine; print(json.dumps(machine.instruction_sets()))"
    for numba, settings, accepted in (
        (False, {}, [present_level()[1], "native"]),
        (True, {"BEBERT_KERNELS": "ahead"}, [present_level()[1], "native"]),
        (True, {}, here),
        (True, {"BEBERT_KERNELS": "jit"}, here),
    ):
        assert json.loads(run(asked, kernels, numba=numba, **settings).stdout)["accepted"] == accepted
        for level in here:
            done = run(WHICH, kernels, numba=numba, BEBERT_ISA=level, **settings)
            assert (done.returncode == 0) == (level in accepted), done.stderr


def test_what_is_asked_for_is_what_runs(kernels):
    """BEBERT_KERNELS=ahead, jit, or neither of them; never another in silence."""
    level = present_level()[1]
    assert run(WHICH, kernels, numba=False, BEBERT_KERNELS="ahead").stdout == f"{level}\n"
    assert run(WHICH, kernels, numba=False, BEBERT_KERNELS=" Ahead ").stdout == f"{level}\n"
    for numba in (True, False):
        done = run(ANSWER, kernels, numba=numba, BEBERT_KERNELS="nonsense")
        assert done.returncode
        assert done.stderr == 'error: BEBERT_KERNELS is "nonsense"; accepted are ahead and jit, or nothing\n'
    assert run(WHICH, kernels, BEBERT_KERNELS="jit").stdout == "None\n"


@pytest.mark.parametrize("name", ["BEBERT_KERNELS", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"])
def test_whoever_asks_for_a_compiler_that_is_not_there_is_told(kernels, name):
    """The library would give an answer, but not the one that was asked for."""
    done = run(ANSWER, kernels, numba=False, **{name: "jit"})
    assert done.returncode and done.stderr == (
        f"error: {name} asks for kernels compiled here, which needs the package numba: "
        f"pip install 'bebert-infer[jit]', or unset {name}\n"
    )


@pytest.mark.parametrize("settings", [{}, {"BEBERT_KERNELS": "nonsense"}, {"NUMBA_DISABLE_JIT": "1"}])
def test_the_reference_needs_neither_library_nor_compiler(kernels, settings):
    no_library_at_all(kernels)
    done = run(ANSWER, kernels, numba=False, BEBERT_BACKEND="reference", **settings)
    assert done.returncode == 0 and json.loads(done.stdout)[0]["label"] == "positive", done.stderr
