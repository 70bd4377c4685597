"""`bebert train --recipe`: options from a file, the command line first, mistakes in one sentence."""

from pathlib import Path

from command import bebert


def recipe(folder: Path, text: str) -> str:
    (folder / "task.toml").write_text(text)
    return str(folder / "task.toml")


def everything(folder: Path) -> str:
    files = "".join(f"{name} = {str(folder / name)!r}\n" for name in ("init", "train", "dev", "out"))
    return files + "members = -1\nlearning-rate = 1e-4\n"


def test_options_come_from_the_file_and_the_command_line_comes_first(tmp_path):
    """`members` is the first option that is checked, so its value tells where it came from."""
    file = recipe(tmp_path, everything(tmp_path))
    assert "members is -1" in bebert("train", "--recipe", file).stderr
    assert "members is -2" in bebert("train", "--members", "-2", "--recipe", file).stderr


def test_a_list_is_what_the_command_line_writes_with_commas(tmp_path):
    """Found by reading: labels = ["neg", "pos"] made classes "['neg'" and "'pos']"."""
    file = recipe(
        tmp_path, everything(tmp_path).replace("members = -1", 'steps = [2, 4]\nscheme = "1-1-1"\nbase = "bit"')
    )
    assert "steps are 2,4; accepted for bit" in bebert("train", "--recipe", file).stderr


def test_a_wrong_file_is_one_sentence(tmp_path):
    assert (
        "has lerning_rate; accepted are base, "
        in bebert("train", "--recipe", recipe(tmp_path, "lerning-rate = 1")).stderr
    )
    assert "cannot be read" in bebert("train", "--recipe", recipe(tmp_path, "= = =")).stderr
    assert "cannot be read" in bebert("train", "--recipe", str(tmp_path / "none.toml")).stderr
    assert "Missing option" in bebert("train", "--recipe", recipe(tmp_path, "members = 2")).stderr


def test_a_value_of_the_wrong_kind_is_refused_as_on_the_command_line(tmp_path):
    """`int` of the number 2.5 would be 2, and no argument can hold a zero byte."""
    for line, said in (
        ("members = 2.5", "Invalid value for '--members': '2.5' is not a valid integer"),
        ('start-from = "a\\u0000b"', "Invalid value for '--start-from': "),
        ('regression = "maybe"', "Invalid value for '--regression': 'maybe' is not a valid boolean"),
    ):
        done = bebert("train", "--recipe", recipe(tmp_path, everything(tmp_path).replace("members = -1", line)))
        assert done.returncode == 2 and said in done.stderr, done.stderr
