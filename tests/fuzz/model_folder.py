"""Fuzz target: bytes in place of the files of a model folder end in an answer or in one ModelFormatError.

    python tests/fuzz/model_folder.py [seconds] [seed]

The first byte of an input says which file the rest is: 0 `config.json`, 1 `model.safetensors`, 2 `tokenizer.json`,
3 `model.safetensors` with its size and sha256 in the config made right, so that the checks behind them are reached.
The other files are those of a good model. With atheris (libFuzzer, led by coverage) installed it is used; without it
inputs of the corpus are changed at random, from a fixed seed. Either way the run ends after the given seconds.
An input that fails is written to `crash-…` in the working folder; put it into `corpus/`, for test_fuzz.py.
"""

import hashlib
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 20.0  # no input of a few kilobytes may take longer


class Target:
    """A good folder, of which one file at a time is replaced."""

    def __init__(self, folder: Path):
        from micro import write_micro

        self.folder = write_micro(folder)
        self.good = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.config = self.good["config.json"]

    def __call__(self, data: bytes) -> str | None:
        """Try one input; returns the error's message, None for a model that answered. Anything else is raised."""
        from micro import is_about_texts

        from bebert_infer import Ensemble, InputError, ModelFormatError

        which, content = (data[0] % 4, data[1:]) if data else (0, b"")
        name = ("config.json", "model.safetensors", "tokenizer.json", "model.safetensors")[which]
        files = self.good | {name: content}
        if which == 3:
            files["config.json"] = self.honest(content)
        for file, value in files.items():
            (self.folder / file).write_bytes(value)
        started = time.perf_counter()
        try:
            model = Ensemble.from_pretrained(self.folder, backend="reference", threads=1)
            model.predict(["the good film", ("bad", "film ly")])
            return None
        except InputError as error:
            if not is_about_texts(error):
                raise
            return None
        except ModelFormatError as error:
            message = str(error)
            if name not in message and "config.json" not in message:
                raise AssertionError(f"the message does not name {name}: {message}") from error
            return message
        finally:
            if time.perf_counter() - started > SECONDS:
                raise AssertionError(f"took more than {SECONDS} s")

    def honest(self, tensors: bytes) -> bytes:
        """The good config with size and sha256 of other tensors."""
        import msgspec

        digest = hashlib.sha256(tensors).hexdigest()
        fields = {"tensors_sha256": digest, "tensors_bytes": len(tensors)}
        return msgspec.json.encode(msgspec.json.decode(self.config) | fields)

    def seeds(self) -> list[bytes]:
        """Good inputs of every kind, and those that are kept."""
        kinds = ("config.json", "model.safetensors", "tokenizer.json", "model.safetensors")
        good = [bytes([which]) + self.good[name] for which, name in enumerate(kinds)]
        return good + [file.read_bytes() for file in sorted(CORPUS.iterdir())]


def mutate(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Change an input in one to four places."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(1, len(changed)) if len(changed) > 1 else 0
        count = chance.choice((1, 1, 2, 4, 8, 64))
        how = chance.randrange(7)
        if how == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif how == 1:
            del changed[at : at + count]
        elif how == 2:
            changed[at:at] = changed[at : at + count]
        elif how == 3:
            changed[at:at] = chance.choice(
                (b"0", b"9" * 20, b"-", b"[", b"{", b'"', b",", b"null", b"NaN", b"\xff\x00")
            )
        elif how == 4:
            other = chance.choice(others)
            start = chance.randrange(len(other))
            changed[at : at + count] = other[start : start + count]
        elif how == 5 and changed[at : at + 1]:
            changed[at] ^= 1 << chance.randrange(8)
        else:
            changed[at : at + count] = bytes(count)
    return bytes(changed)


def run(
    target: Callable[[bytes], object], seeds: list[bytes], seed: int, seconds: float = math.inf, count: float = math.inf
) -> int:
    """Change seeds at random until the time or the count is over; returns the number of inputs tried.

    Keeps the input that fails. A run of the same seed tries the same inputs in the same order.
    """
    chance, tried, until = random.Random(seed), 0, time.monotonic() + seconds
    while tried < count and time.monotonic() < until:
        data = mutate(chance.choice(seeds), seeds, chance)
        try:
            target(data)
        except BaseException:
            file = Path(f"crash-{hashlib.sha256(data).hexdigest()[:16]}")
            file.write_bytes(data)
            print(f"the input is in {file}", file=sys.stderr)
            raise
        tried += 1
    return tried


def main(seconds: float = 60, seed: int = 0) -> None:
    """Fuzz with atheris if it is there."""
    try:
        import atheris
    except ImportError:
        atheris = None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if atheris is None:
            target = Target(folder / "model")
            print(f"{run(target, target.seeds(), seed, seconds):,} inputs, none failed; atheris is not installed")
            return
        with atheris.instrument_imports(include=["bebert_infer"]):
            import bebert_infer.artifact.folder  # noqa: F401 - imported here, so that atheris sees its branches
        target = Target(folder / "model")
        (folder / "seeds").mkdir()
        for index, data in enumerate(target.seeds()):
            (folder / "seeds" / str(index)).write_bytes(data)
        options = [f"-max_total_time={int(seconds)}", f"-seed={seed + 1}", "-max_len=20000", "-timeout=60"]
        atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(folder / "seeds")], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*(float(word) if index == 0 else int(word) for index, word in enumerate(sys.argv[1:])))
