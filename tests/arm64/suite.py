"""What an aarch64 wheel must do on a board: products and golden models exact, the right library, a first answer.

Not collected by name: `run.sh` gives it to pytest on an emulated Raspberry Pi, where the whole suite takes too long.
There is no Numba there. So kernels are not called one by one, as `tests/arithmetic` does on x86: stages are what a
library has, and layers and whole models go through all of them.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import product_cases
import pytest
from demo_answers import STORED, check_stored_answers

import bebert_infer
import bebert_kernels
from bebert_infer import Ensemble
from bebert_infer.cli.demo import SENTENCES
from bebert_infer.measure.machine import costs_from, instruction_sets, machine_code, self_test
from bebert_infer.measure.sample_models import demo_path
from bebert_infer.model.batch import ragged_batch
from bebert_kernels.program.layer import PRODUCTS

ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "tests" / "data" / "artifacts" / "v1"
BOARD = os.environ["BOARD"]
LEVEL = {"cortex-a72": "neon", "cortex-a76": "dotprod"}[BOARD]
EDGES = [1, 63, 64, 65, 127, 128, 129, 192]
# case -> whether the published values do not depend on what else is in the batch, see test_frozen_artifacts.py
FAMILIES = {"binarybert_1_1_4_h64": True, "bibert_1_1_1": True, "bit_1_1_1": True, "ternarybert_2_2_8": False}
ABSENT = ["numba", "llvmlite", "pyarrow", "torch"]


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process on this board."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)


# --- what is installed ---


def test_this_is_a_board_without_a_compiler():
    assert platform.machine() == "aarch64"
    assert [name for name in ABSENT if importlib.util.find_spec(name)] == []
    for package in (bebert_infer, bebert_kernels):
        assert Path(package.__file__).is_relative_to(ROOT / ".arm64" / "site"), "of the checkout, not what is installed"


def test_what_the_wheel_requires_is_installed():
    try:
        required = importlib.metadata.requires("bebert-infer") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no wheel was installed, but the packages of the checkout (tests/arm64/install.py)")
    names = [re.match(r"[\w.-]+", line)[0] for line in required if "extra ==" not in line]
    assert "numpy" in names and not {"numba", "pyarrow"} & set(names)
    for name in names:
        importlib.metadata.version(name)


# --- which library ---


def test_the_library_is_that_of_the_cpu():
    code = machine_code()
    assert (code["from"], code["level"]) == ("library", LEVEL)


CODE = "import json; from bebert_infer.measure.machine import machine_code; print(json.dumps(machine_code()))"


def test_features_come_from_the_c_library_and_not_from_a_file():
    """Without a /proc/cpuinfo of the board the emulated process reads that of the machine below it."""
    done = run("-c", CODE, BOARD_FILES="root")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["level"] == LEVEL


@pytest.mark.skipif(LEVEL == "neon", reason="this board has no smaller level")
def test_a_board_runs_the_library_of_a_smaller_one_when_asked():
    code = f"{CODE}; import demo_answers; demo_answers.check_stored_answers()"
    done = run("-c", code, BEBERT_ISA="neon", PYTHONPATH=os.pathsep.join(sys.path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["level"] == "neon"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"BEBERT_ISA": "sve2"}, 'BEBERT_ISA is "sve2", which is unknown; accepted on this CPU: neon, '),
        ({"BEBERT_ISA": "generic"}, 'BEBERT_ISA is "generic"; this package has kernels for neon, dotprod: choose one'),
        ({"BEBERT_KERNELS": "jit"}, "pip install 'bebert-infer[jit]'"),
    ],
)
def test_what_is_not_there_is_one_sentence(environment, sentence):
    done = run("-m", "bebert_infer", "doctor", COLUMNS="300", **environment)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_doctor_lists_the_levels_that_are_accepted():
    """`generic` is none of them: there is no library of that name."""
    accepted = instruction_sets()["accepted"]
    assert accepted == {"neon": ["neon", "native"], "dotprod": ["neon", "dotprod", "native"]}[LEVEL]
    for level in accepted:
        done = run("-c", CODE, BEBERT_ISA=level)
        assert done.returncode == 0, done.stderr


def test_costs_are_those_that_were_counted_for_this_board():
    assert costs_from().startswith(f"counted on an emulated {BOARD.title()}: ")


@pytest.mark.skipif(LEVEL != "neon", reason="this board has the dot product")
def test_a_library_that_the_cpu_cannot_run_is_not_loaded():
    done = run("-m", "bebert_infer", "doctor", COLUMNS="300", BEBERT_ISA="dotprod")
    assert done.returncode == 2 and "this CPU lacks dotprod" in done.stderr, done.stderr


# --- what it computes ---


@pytest.mark.parametrize("depth", EDGES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_equal_plain_arithmetic(name, depth):
    for outputs in (1, 127, 129, 257):
        for bits in range(9):
            if product_cases.takes(name, bits, depth):
                product_cases.check(name, 9, outputs, depth, bits, seed=depth)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_ragged_layers_equal_plain_arithmetic(name):
    for rows, outputs, depth in ((1, 7, 63), (2, 9, 70), (3, 17, 333), (5, 130, 129), (37, 600, 777)):
        for bits in (0, 1, 4, 8):
            if product_cases.takes(name, bits, depth):
                product_cases.check(name, rows, outputs, depth, bits)


def test_the_self_test_of_doctor_passes():
    found = self_test()
    assert found["passed"] and len(found["cases"]) >= 12, found


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_golden_model_of_each_family_gives_the_published_logits(family, product, monkeypatch):
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    stored = np.load(FROZEN / f"{family}.npz")
    inputs = [stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    model = Ensemble.from_pretrained(FROZEN / family, threads=2)
    found = model.member_logits(*inputs)
    if FAMILIES[family]:
        np.testing.assert_allclose(found, stored["logits"], atol=1e-5, rtol=0)
    wanted = Ensemble.from_pretrained(FROZEN / family, backend="reference").member_logits(*inputs)
    np.testing.assert_array_equal(found, wanted)
    ids, mask, types = inputs
    alone = ragged_batch(ids[1:2].astype(np.int64), mask[1:2].astype(bool), types[1:2].astype(np.int64))
    np.testing.assert_array_equal(model.engine.members[0].forward(alone), found[0, 1:2])


@pytest.mark.parametrize("case", sorted({path.stem for path in FROZEN.glob("*.npz")} - set(FAMILIES)))
def test_every_other_frozen_model_gives_the_bits_of_the_reference(case):
    stored = np.load(FROZEN / f"{case}.npz")
    inputs = [stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    models = [Ensemble.from_pretrained(FROZEN / case, backend=name) for name in ("native", "reference")]
    np.testing.assert_array_equal(*(model.member_logits(*inputs) for model in models))


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_demo_model_gives_its_stored_answers(product, monkeypatch):
    monkeypatch.setenv("BEBERT_PRODUCT", product)
    check_stored_answers()


# --- as a user meets it ---


def test_a_first_answer_comes_from_the_command_line_without_a_word_of_compiling(tmp_path):
    """No cache, nothing measured yet, no home folder."""
    text, label = SENTENCES[0][0], json.loads(STORED.read_text())["labels"][0]
    fresh = {"BEBERT_CACHE_DIR": str(tmp_path / "new"), "HOME": str(tmp_path / "none"), "BEBERT_QUIET": "0"}
    done = run("-m", "bebert_infer", "predict", demo_path(), text, "--json", **fresh)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert [answer["label"] for answer in json.loads(done.stdout)] == [label]
