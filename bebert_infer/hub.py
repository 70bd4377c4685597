"""Models of the Hugging Face hub: "owner/name" wherever a model folder is accepted, and the way back, `push`.

What is fetched stays in the hub's own cache, where other tools find it too, and a model is read there as it lies. Of a
repository only the files of a model folder are asked for: first `config.json`, and the rest, of the same commit, only
if that describes a packed model. Whether files are whole and belong together is for `artifact/folder.py` to say, by
the hashes in `config.json`; nothing that the network brought is believed before.

A name may carry its revision: "owner/name@v1.0". The client of the hub is imported when a name is no folder.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from bebert_infer.artifact.folder import (
    CARD,
    CONFIG,
    FILES,
    TENSORS,
    TOKENIZER,
    Artifact,
    check_place,
    read_artifact,
    read_config,
    write_artifact,
)
from bebert_infer.artifact.safe_file import read_bytes
from bebert_infer.atomic_files import staging
from bebert_infer.errors import BebertError, HubError, InputError, MissingModelError, ModelFormatError, first_line

NAME = re.compile(r"(?P<name>(?!\.{1,2}/)[\w.-]+/(?!\.{1,2}(?:@|$))[\w.-]+)(?:@(?P<revision>.+))?", re.ASCII)
LIBRARY = "bebert-infer"  # as the hub counts downloads
MAX_FILE = 2**40  # of a file that is copied: it has been read and found good before
BARE_CARD = """---
library_name: bebert-infer
pipeline_tag: text-classification
tags: [binary-bert, bebert]
---

# Binary ensemble BERT

Packed by `bebert`. Data, licence and training command were not given.
"""


def local_folder(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a model: the one of that name here, else the snapshot of that repository, fetched if need be.

    revision, token, cache_dir, local_files_only : as in `Ensemble.from_pretrained`

    Without network, and where the hub does not answer, the cache has the last word. Raises MissingModelError for what
    is neither a folder nor a repository that this token may see, HubError for what cannot be fetched,
    ModelFormatError for a repository without a packed model.
    """
    text = os.fspath(model)
    here = os.path.lexists(text)
    match = None if here else NAME.fullmatch(text)
    if match is None:
        if here and revision is not None:
            raise InputError(
                f'"{text}" is a folder here, and revision "{revision}" is of models on the hub: leave it out'
            )
        return Path(text)
    if match["revision"] and revision is not None:
        raise InputError(f'"{text}" names a revision, and so does revision="{revision}"; pass one of them')
    where = _Repository(match["name"], match["revision"] or revision or "main", token, cache_dir)
    return where.cached() if local_files_only or _offline() else where.fetched()


def save(artifact: Artifact, folder: str | os.PathLike[str]) -> None:
    """Write a model folder, whole or not at all: the same bytes, if the artifact came from a folder.

    Raises ModelFormatError if `folder` is taken, or if the files of the artifact have become others.
    """
    source, folder = artifact.path, Path(folder)
    if not (source / CONFIG).is_file():
        write_artifact(folder, artifact.config, artifact.tensors, artifact.tokenizer_json, BARE_CARD)
        return
    check_place(folder)
    with staging(folder) as made:
        made.mkdir()
        for name in FILES:
            if name == CARD and not (source / name).exists():
                (made / name).write_text(BARE_CARD, "utf-8")
            elif name != TOKENIZER or artifact.config.tokenizer is not None:
                (made / name).write_bytes(read_bytes(source / name, MAX_FILE))
        if read_artifact(made).config != artifact.config:
            raise ModelFormatError(f'"{source}" holds another model now than when it was read; load it again')


def push(
    artifact: Artifact,
    name: str,
    *,
    private: bool | None = None,
    commit_message: str | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
) -> str:
    """Commit all files of a model to a repository, made if it is not there; returns the address of the commit.

    Options as in `Ensemble.push_to_hub`. Raises InputError, HubError, and ModelFormatError as `save`.
    """
    match = NAME.fullmatch(name)
    if match is None or match["revision"]:
        raise InputError(f'the repository is "{name}"; accepted is "owner/name", as the hub shows it')
    if _offline():
        raise HubError(f'"{name}" cannot be pushed while HF_HUB_OFFLINE is set; unset it')
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(token=token, library_name=LIBRARY)
    where = _Repository(name, revision or "main", token, None)
    with tempfile.TemporaryDirectory(prefix="bebert-push-") as place:
        folder = Path(place) / "model"
        save(artifact, folder)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            # `private` says nothing to a repository that was there: what should stay private must not come out there.
            if private and not api.model_info(name).private:
                raise InputError(
                    f'"{name}" is there and public; nothing was pushed: make it private on the hub, or choose another'
                )
            if revision is not None and revision != "main":
                api.create_branch(name, branch=revision, exist_ok=True)
            files = [CommitOperationAdd(file.name, file) for file in sorted(folder.iterdir())]
            message = commit_message or "Model packed by bebert-infer"
            done = api.create_commit(name, files, commit_message=message, revision=revision)
        except BebertError:
            raise
        except Exception as error:  # the client raises many kinds
            raise where.told(error, "cannot be pushed") from None
    return str(done.commit_url)


class _Repository:
    """A repository at a revision: its files in the cache, and what is said if they do not come."""

    def __init__(
        self, name: str, revision: str, token: str | bool | None, cache: str | os.PathLike[str] | None
    ) -> None:
        from huggingface_hub import constants

        self.name, self.revision, self.token = name, revision, token
        self.cache = Path(cache or constants.HF_HUB_CACHE).expanduser().absolute()
        self.hub = constants.ENDPOINT
        self.title = f'"{name}"' if revision == "main" else f'revision "{revision}" of "{name}"'

    def fetched(self) -> Path:
        """The snapshot of the newest commit of the revision that can be had; the network is asked."""
        folder = self._begun()
        if not (folder / CONFIG).exists():
            raise self._lacks(CONFIG)
        tokenizer = [TOKENIZER] if read_config(folder).tokenizer is not None else []
        for name in (TENSORS, *tokenizer):
            self._fetch(name, folder.name)
        return folder

    def cached(self) -> Path:
        """The snapshot in the cache, without asking anybody. Raises HubError if it is not there, or not whole."""
        folder = self._snapshot()
        if folder is None:
            raise HubError(
                f'{self.title} is not in the hub cache "{self.cache}", and no server may be asked (local_files_only or '
                "HF_HUB_OFFLINE); load it once with network, or copy its folder here and pass that"
            )
        missing = [CONFIG] if not (folder / CONFIG).exists() else []
        if not missing:
            tokenizer = [TOKENIZER] if read_config(folder).tokenizer is not None else []
            missing = [name for name in (TENSORS, *tokenizer) if not (folder / name).exists()]
        if missing:
            raise HubError(
                f'of {self.title} the hub cache "{self.cache}" lacks {" and ".join(missing)}, and no server may be '
                "asked (local_files_only or HF_HUB_OFFLINE); load it once with network"
            )
        return folder

    def _snapshot(self) -> Path | None:
        """Folder of the revision in the cache, as `refs/` or its own name says."""
        place = self.cache / f"models--{self.name.replace('/', '--')}"
        if ".." in Path(self.revision).parts or "\0" in self.revision:
            return None
        try:
            # Written by hand, a ref may end with a new line; the client's own reader does not expect one.
            commit = (place / "refs" / self.revision).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            commit = self.revision
        folder = place / "snapshots" / commit
        return folder if re.fullmatch(r"[\w.-]+", commit) and folder.is_dir() else None

    def _begun(self) -> Path:
        """The snapshot with the small files; the client asks which commit it is, and remembers that in the cache."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
        from huggingface_hub.utils import tqdm

        class NoBar(tqdm):  # it would be drawn even if nothing has to be fetched
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **settings | {"disable": True})

        try:
            place = snapshot_download(
                self.name,
                revision=self.revision,
                token=self.token,
                cache_dir=self.cache,
                allow_patterns=[CONFIG, CARD],
                library_name=LIBRARY,
                tqdm_class=NoBar,
            )
            return Path(place)
        except (
            LocalEntryNotFoundError
        ) as error:  # no answer, and nothing in the cache that the client knows how to read
            if (folder := self._snapshot()) is None:
                raise self.told(
                    error, f"is no folder here, cannot be fetched ({CONFIG}) and is not in the cache"
                ) from None
            return folder
        except Exception as error:  # the client raises many kinds: of the hub, of HTTP, of the disk
            raise self.told(error, f"is no folder here and cannot be fetched ({CONFIG})") from None

    def _fetch(self, name: str, commit: str) -> None:
        """See that a file of a commit is in the cache."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            hf_hub_download(
                self.name, name, revision=commit, token=self.token, cache_dir=self.cache, library_name=LIBRARY
            )
        except RemoteEntryNotFoundError:
            raise self._lacks(name) from None
        except Exception as error:  # as above
            raise self.told(error, f"cannot be fetched ({name})") from None

    def _lacks(self, name: str) -> MissingModelError:
        return MissingModelError(
            f"{self.title} at {self.hub} has no {name}: it holds no packed model, or not all of one; push the whole "
            "folder that `bebert train` or `bebert convert` writes"
        )

    def told(self, error: Exception, what: str) -> BebertError:
        """The error of the client in one sentence: repository, what failed, what to do."""
        from huggingface_hub import errors, get_token

        known: Any = self.token if isinstance(self.token, str) else self.token is not False and get_token()
        log_in = (
            "the token that was sent has not that right: check it at the hub's settings"
            if known
            else "no token was sent: run `hf auth login`, set HF_TOKEN, or pass token="
        )
        cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        title = f"{self.title} at {self.hub}"
        if isinstance(cause, errors.GatedRepoError):
            return HubError(
                f"{title} {what}: it is gated; ask for access at {self.hub}/{self.name} with your account, and if it "
                f"is still refused then: {log_in}"
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            return MissingModelError(
                f'"{self.name}" at {self.hub} has no revision "{self.revision}"; accepted are its branches, tags and '
                f"commits, which {self.hub}/{self.name}/commits/main lists"
            )
        if isinstance(cause, errors.RepositoryNotFoundError):
            return MissingModelError(
                f'"{self.name}" is no folder here, and {self.hub} shows no repository of this name: check the name; if '
                f"it is private, {log_in}"
            )
        if isinstance(cause, errors.HFValidationError):
            return InputError(f'"{self.name}" is no folder here and no name of a repository: {first_line(cause)}')
        if isinstance(cause, ValueError) and status in (None, 400):  # such as a card that the hub does not take
            said = " ".join(line.strip() for line in str(cause).splitlines() if line.strip())
            return HubError(f"{title} {what}: {said:.500}; mend that, and try again")
        if status in (401, 403):
            return HubError(f"{title} {what}: the hub refused it ({status}); {log_in}")
        if status is not None:
            return HubError(f"{title} {what}: the hub answered {status}, {first_line(cause)}; try again later")
        if isinstance(error, errors.LocalEntryNotFoundError) or "httpx" in type(cause).__module__:
            return HubError(
                f"{title} {what}: no answer ({type(cause).__name__}: {first_line(cause)}); check the network and "
                f'HF_ENDPOINT, or load it once where there is one into the cache "{self.cache}"'
            )
        return HubError(f"{title} {what}: {type(cause).__name__}: {first_line(cause)}; try again")


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
