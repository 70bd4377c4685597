"""A Hugging Face hub on this machine: the endpoints that the real client asks, with headers and errors as the hub's.

Repositories live in memory as commits of files. Large files (`*.safetensors`) go and come by LFS: a batch request, an
upload, a redirect to an address without tokens. `requests` is what was asked, in order. The client reads HF_ENDPOINT
when it is imported, so it runs in processes of its own: `python` starts one.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

OWNER, READER = "hf_owner", "hf_reader"  # tokens: of whom all repositories are, of somebody else
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits and branches; gated: everybody sees it, its owner reads it."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: Files, branch: str = "main", message: str = "") -> str:
        """Put files above those of a branch; returns the commit."""
        before = self.commits.get(self.branches.get(branch, ""), {})
        self.messages.append(message)
        name = hashlib.sha1(repr((len(self.commits), branch, message)).encode()).hexdigest()
        self.commits[name], self.branches[branch] = before | files, name
        return name

    def find(self, revision: str) -> str | None:
        """The commit of a branch or commit."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class Hub(ThreadingHTTPServer):
    """The server; use it with `hub()`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}  # LFS
        self.requests: list[str] = []
        self.users: set[str] = set()
        self.damage: dict[str, Callable[[bytes], bytes]] = {}  # what happens to the content of a file on its way
        self.breaks = False  # a shorter content shows as a connection that broke, else it is said to be so short
        self.down = False

    def add(self, name: str, folder: Path | None = None, **settings: bool) -> Repository:
        """A repository, with the files of a folder if one is given."""
        made = self.repositories[name] = Repository(**settings)
        if folder is not None:
            made.commit({file.name: file.read_bytes() for file in sorted(folder.iterdir())})
        return made

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """What makes the real client in another process talk to this hub, with a cache and no token of its own."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "BEBERT_BACKEND": "reference"}
        return clean | own | more

    def python(self, code: str, home: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in a process that talks to this hub."""
        return self.run([sys.executable, "-c", code, *map(str, arguments)], home, **more)

    def bebert(self, home: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process that talks to this hub."""
        return self.run([sys.executable, "-m", "bebert_infer", *map(str, arguments)], home, **more)

    def run(self, command: list[str], home: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a process that talks to this hub."""
        environment = self.environment(home, COLUMNS="200", **more)
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def card_faults(content: str) -> list[str]:
    """What the hub has against the front matter of a card, by its page on model cards."""
    found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if found is None:
        return ["no front matter"]
    data = yaml.safe_load(found[1])
    if not isinstance(data, dict):
        return ["front matter is no mapping"]
    faults = [
        f"{name} is {data[name]!r}"
        for name in ("license", "library_name", "pipeline_tag", "license_name")
        if name in data and not isinstance(data[name], str)
    ]
    for name in ("language", "tags", "datasets", "base_model", "metrics"):
        values = data.get(name, [])
        for value in [values] if isinstance(values, str) else values:
            if not isinstance(value, str):
                faults.append(f"{name} holds {value!r}")
            elif name == "language" and not re.fullmatch(r"[a-z]{2,3}|multilingual|code", value):
                faults.append(f"language is {value}")
            elif name in ("base_model", "datasets") and not re.fullmatch(r"([\w.-]+/)?[\w.-]+", value):
                faults.append(f"{name} is {value}")
    for example in data.get("widget", []):
        if not isinstance(example, dict) or not isinstance(example.get("text"), str):
            faults.append(f"widget holds {example!r}")
    for model in data.get("model-index", []):
        if not isinstance(model.get("name"), str):
            faults.append("model-index has no name")
        for result in model.get("results", []):
            if not isinstance(result["task"]["type"], str):
                faults.append("a result has no task type")
            if {"type", "name"} - set(result["dataset"]):
                faults.append(f"a result's dataset is {result['dataset']}")
            for metric in result["metrics"]:
                if not isinstance(metric["type"], str) or not isinstance(metric["value"], int | float | str):
                    faults.append(f"a metric is {metric}")
    return faults


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    # --- answers ---

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X_Error_Code": code} if code else {}
        headers |= {"X_Error_Message": message} if message else {}
        self.answer(status, json.dumps({"error": message or code}).encode(), **headers)

    # --- who asks for what ---

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_one(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        self.server.users.add(self.headers.get("User-Agent", ""))
        content = self.body()
        if self.server.down:
            return self.refuse(500, message="the hub is out of order")
        if self.token and self.token not in (OWNER, READER):
            return self.refuse(401, message="Invalid credentials in Authorization header")
        for pattern, function in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                function(self, content, **{name: unquote(value) for name, value in found.groupdict().items() if value})
                return None
        return self.refuse(404, message=f"nobody answers {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_one

    def repository(self, name: str, write: bool = False) -> Repository | None:
        """The repository, if this token may; otherwise the refusal has been sent."""
        found = self.server.repositories.get(name)
        if found is None or (found.private and self.token != OWNER):
            # As the hub does it: who is not logged in does not learn what there is.
            self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
            return None
        if write and self.token != OWNER:
            self.refuse(403 if self.token else 401, message="You don't have the rights to write here")
            return None
        return found

    # --- reading ---

    def info(self, content: bytes, name: str, revision: str = "main") -> None:
        if (found := self.repository(name)) is None:
            return None
        commit = found.find(revision)
        if commit is None and found.commits:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = [{"rfilename": file} for file in found.commits.get(commit or "", {})]
        facts = {"id": name, "modelId": name, "sha": commit, "private": found.private, "siblings": files}
        return self.json(facts | {"gated": "manual" if found.gated else False, "tags": [], "downloads": 0})

    def tree(self, content: bytes, name: str, revision: str) -> None:
        if (found := self.repository(name)) is None:
            return None
        if (commit := found.find(revision)) is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        entries = []
        for path, data in found.commits[commit].items():
            entry: dict = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if path.endswith(".safetensors"):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            entries.append(entry)
        return self.json(entries)

    def resolve(self, content: bytes, name: str, revision: str, file: str) -> None:
        if (found := self.repository(name)) is None:
            return None
        if found.gated and self.token != OWNER:
            message = f"Access to model {name} is restricted and you are not in the authorized list."
            return self.refuse(403 if self.token else 401, "GatedRepo", message)
        if (commit := found.find(revision)) is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if file not in found.commits[commit]:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        data = found.commits[commit][file]
        if file.endswith(".safetensors"):
            oid = hashlib.sha256(data).hexdigest()
            self.server.blobs[oid] = data
            linked = {"X_Linked_ETag": f'"{oid}"', "X_Linked_Size": str(len(data))}
            # localhost is another host than 127.0.0.1: the client must not show its token there.
            place = f"{self.server.url.replace('127.0.0.1', 'localhost')}/lfs/{oid}/{file}"
            return self.answer(302, X_Repo_Commit=commit, Location=place, ETag=f'"{git_hash(data)}"', **linked)
        return self.send(file, data, X_Repo_Commit=commit, ETag=f'"{git_hash(data)}"')

    def lfs(self, content: bytes, oid: str, file: str) -> None:
        if self.token:
            return self.refuse(400, message="a token was sent to another host")
        return self.send(file, self.server.blobs[oid])

    def send(self, file: str, data: bytes, **headers: str) -> None:
        """The content, or what is left of it on its way; from where the client wants to go on."""
        if self.command == "HEAD":
            return self.answer(200, Content_Length=str(len(data)), **headers)
        sent = self.server.damage.get(file, lambda whole: whole)(data)
        size = len(data) if self.server.breaks else len(sent)
        self.close_connection = len(sent) < size
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        if found:
            headers |= {"Content_Range": f"bytes {start}-{size - 1}/{size}"}
        return self.answer(206 if found else 200, sent[start:], Content_Length=str(size - start), **headers)

    # --- writing ---

    def create(self, content: bytes) -> None:
        asked = json.loads(content)
        name = f"{asked.get('organization')}/{asked['name']}"
        if self.token != OWNER:
            return self.refuse(403 if self.token else 401, message="You don't have the rights to create a model")
        if name in self.server.repositories:
            taken = {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}
            return self.answer(409, json.dumps(taken).encode())
        self.server.add(name, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return self.json({"url": f"{self.server.url}/{name}", "name": name, "id": "1"})

    def validate(self, content: bytes) -> None:
        faults = card_faults(json.loads(content)["content"])
        if faults:
            return self.answer(
                400, json.dumps({"errors": [{"message": fault} for fault in faults], "warnings": []}).encode()
            )
        return self.json({"errors": [], "warnings": []})

    def branch(self, content: bytes, name: str, branch: str) -> None:
        if (found := self.repository(name, write=True)) is None:
            return None
        if branch in found.branches:
            return self.refuse(409, message="Reference already exists")
        if not found.commits:
            found.commit({})
        found.branches[branch] = found.branches["main"]
        return self.json({})

    def preupload(self, content: bytes, name: str, revision: str) -> None:
        if self.repository(name, write=True) is None:
            return None
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(content)["files"]
        ]
        return self.json({"files": modes})

    def batch(self, content: bytes, name: str) -> None:
        if self.repository(name, write=True) is None:
            return None
        objects = [
            {
                "oid": one["oid"],
                "size": one["size"],
                "actions": {"upload": {"href": f"{self.server.url}/up/{one['oid']}"}},
            }
            for one in json.loads(content)["objects"]
        ]
        return self.json({"transfer": "basic", "objects": objects})

    def upload(self, content: bytes, oid: str) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            return self.refuse(400, message="the content has another hash")
        self.server.blobs[oid] = content
        return self.answer(200)

    def commit(self, content: bytes, name: str, revision: str) -> None:
        if (found := self.repository(name, write=True)) is None:
            return None
        files: Files = {}
        message = ""
        for line in content.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        made = found.commit(files, revision, message)
        return self.json({"commitUrl": f"{self.server.url}/{name}/commit/{made}", "commitOid": made, "success": True})


def git_hash(data: bytes) -> str:
    """What git calls a file, and the hub its ETag."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
ROUTES = [
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"GET /api/models/{_NAME}(/revision/(?P<revision>[^/]+))?", _Handler.info),
    (rf"GET /api/models/{_NAME}/tree/(?P<revision>[^/]+)/?", _Handler.tree),
    (rf"POST /api/models/{_NAME}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    (rf"POST /api/models/{_NAME}/commit/(?P<revision>[^/]+)", _Handler.commit),
    (rf"POST /api/models/{_NAME}/branch/(?P<branch>[^/]+)", _Handler.branch),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /up/(?P<oid>\w+)", _Handler.upload),
    (r"(GET|HEAD) /lfs/(?P<oid>\w+)/(?P<file>[^/]+)", _Handler.lfs),
    (rf"(GET|HEAD) /{_NAME}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Handler.resolve),
]
