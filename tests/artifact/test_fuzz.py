"""Every input that is kept of fuzzing ends as it should, and so do some new ones; `make fuzz` tries many more."""

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "fuzz" / "model_folder.py"
CORPUS = sorted((SOURCE.parent / "corpus").iterdir())
_spec = importlib.util.spec_from_file_location("model_folder", SOURCE)
assert _spec and _spec.loader
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory):
    return fuzz.Target(tmp_path_factory.mktemp("fuzz") / "model")


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_inputs_that_are_kept_end_in_a_model_or_one_error(target, file):
    answer = target(file.read_bytes())
    assert (answer is None) == file.name.startswith("good")


def test_new_inputs_end_in_a_model_or_one_error(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a failing input is written to the working folder
    # A count, not a time: what is tried must not depend on how fast the machine is.
    assert fuzz.run(target, target.seeds(), seed=0, count=150) == 150


def test_the_target_notices_what_is_no_model_format_error(target, tmp_path, monkeypatch):
    """A fuzzer that cannot fail proves nothing."""
    monkeypatch.chdir(tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise KeyError("members.0.pooler.bias")

    monkeypatch.setattr("bebert_infer.ensemble.read_artifact", broken)
    with pytest.raises(KeyError):
        fuzz.run(target, target.seeds(), seed=0, count=1)
    assert [file.name[:6] for file in tmp_path.iterdir()] == ["crash-"]
