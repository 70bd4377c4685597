"""Makes the page that classifies without a server, whole, in one folder: `make docs` puts it into the site, as `demo/`.

    python docs/demo/build.py build/demo

The model is exported as ONNX (and so checked against the engine). ONNX Runtime and the tokenizer come from npm: the
versions and hashes of package-lock.json, nothing else, without running code of theirs. Style and drawing of votes are
the files of the server's page. What the page loads is listed in files.js, with the hash that the browser checks.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from tokenizers import Tokenizer

from bebert_export.packed_onnx.export import export_packed
from bebert_infer.atomic_files import staging
from bebert_infer.errors import BebertError, DataError
from bebert_infer.measure.sample_models import demo_path

HERE = Path(__file__).resolve().parent
SERVER = HERE.parents[1] / "bebert_infer" / "server"
PAGE = ("index.html", "demo.js", "keep.js", "engine.js", "tokens.js", "service-worker.js")
SHARED = ("page.css", "answer.js")  # with the server's page
# The smallest build of ONNX Runtime for browsers that runs the model: on CPUs, without WebGPU, WebGL and WebNN.
VENDORED = {
    "onnxruntime-web": ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    "@huggingface/tokenizers": ("dist/tokenizers.min.mjs",),
}
UNKNOWN = "ᚠ"  # a rune: lower case and decomposition leave it alone, and no word of the model may have it


def build(out: Path) -> None:
    """Write the page as the folder `out`, whole or not at all; what is there is replaced.

    Raises DataError where npm is missing or fails, and for a model whose answers the page cannot show; what
    `export_packed` raises.
    """
    if (npm := shutil.which("npm")) is None:
        raise DataError("npm is not installed, which fetches ONNX Runtime for browsers; install it (apt install npm)")
    with staging(out) as made:
        made.mkdir()
        for name in PAGE:
            shutil.copyfile(HERE / name, made / name)
        for name in SHARED:
            shutil.copyfile(SERVER / name, made / name)
        _vendor(npm, made)
        export_packed(demo_path(), made / "model.onnx")
        _write(made / "about.json", _about(made / "model.onnx"))
        _write(made / "characters.json", characters(Tokenizer.from_file(str(made / "tokenizer.json"))))
        list_files(made)


def _vendor(npm: str, out: Path) -> None:
    """Copy what the page needs of the packages that the lock file names, and their licences."""
    licences = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copyfile(HERE / name, Path(folder, name))
        done = subprocess.run([npm, "ci"], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise DataError(f"npm ci with docs/demo/package-lock.json ended with {done.returncode}: {said}")
        for package, names in VENDORED.items():
            place = Path(folder, "node_modules", package)
            about = json.loads((place / "package.json").read_text("utf-8"))
            for name in names:
                shutil.copyfile(place / name, out / Path(name).name)
            own = place / "LICENSE"
            text = (own if own.is_file() else HERE / "onnxruntime_licence.txt").read_text("utf-8")
            licences.append(f"{package} {about['version']}: {about['license']}\n\n{text.strip()}\n")
    (out / "licences.txt").write_text("\n\n".join(licences), "utf-8")


def _about(model: Path) -> dict[str, object]:
    """What the page must know of a model, from its metadata. Raises DataError for one that it would show wrongly."""
    said = {entry.key: entry.value for entry in onnx.load(str(model)).metadata_props}
    if said["problem_type"] != "single_label_classification" or said["combination"] == "vote":
        raise DataError(
            "the page shows members by their probabilities; this model is of "
            f"{said['problem_type']} by {said['combination']}"
        )
    return {
        "labels": json.loads(said["labels"]),
        "alphas": json.loads(said["alphas"]),
        "max_length": int(said["max_length"]),
        "tensors_sha256": said["tensors_sha256"],
        "bebert_version": said["bebert_version"],
    }


def characters(tokenizer: Tokenizer) -> dict[str, object]:
    """What the engine's tokenizer makes of every character: ranges [first, last, replacement], all others are UNKNOWN.

    A character that no word of the vocabulary has becomes UNKNOWN, because its word is unknown whatever it is; one that
    is a word of its own has spaces around it. Raises DataError for a vocabulary with UNKNOWN in it.
    """
    specials = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    alphabet = set("".join(set(tokenizer.get_vocab()) - specials))
    if UNKNOWN in alphabet:
        raise DataError(f"the vocabulary has words with {UNKNOWN}, which stands for unknown letters here")
    ranges: list[list[object]] = []
    for code in range(sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000:
            continue
        made = tokenizer.normalizer.normalize_str(f"a{chr(code)}a")
        words = " ".join(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(made))[1:-1]
        replacement = "".join(one if one in alphabet or one == " " else UNKNOWN for one in words)
        if replacement == UNKNOWN:
            continue
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == replacement:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, replacement])
    return {"unknown": UNKNOWN, "ranges": ranges}


def list_files(folder: Path) -> None:
    """Write files.js: bytes and hash of each file, and a version that is another one whenever a file is."""
    files = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        # A service worker does not keep itself: the browser does.
        if path.name != "service-worker.js":
            files[path.name] = {"bytes": len(content), "integrity": f"sha256-{digest}"}
    version = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]
    text = f"self.DEMO_VERSION = {json.dumps(version)};\nself.DEMO_FILES = {json.dumps(files)};\n"
    (folder / "files.js").write_text(text, "utf-8")


def _write(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


def main() -> int:
    """Build into the folder that the command names."""
    if len(sys.argv) != 2:
        print("usage: python docs/demo/build.py FOLDER", file=sys.stderr)
        return 2
    try:
        build(Path(sys.argv[1]))
    except BebertError as error:
        print(f"docs/demo/build.py: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
