"""A Hugging Face Hub in one file, for tests: the routes that the real client uses to push and pull, over loopback.

    with HubServer() as hub:
        os.environ["HF_ENDPOINT"] = hub.url

Repositories live in memory. A fault is a function that may answer a request before the server does, so that a test can
be the hostile or the failing Hub; `requests` records what the client sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test_0123456789abcdef"
"""The only token that the server takes."""

LFS_SUFFIXES = (".safetensors", ".onnx", ".bin", ".data")


@dataclass
class Repo:
    """One model repository: commits oldest first, each a hash and its whole tree."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main", deleted: tuple[str, ...] = ()) -> str:
        """Adds a commit on `branch` that writes `files`; returns its hash."""
        tree = {**self.tree(self.branches.get(branch, "")), **files}
        tree = {name: content for name, content in tree.items() if name not in deleted}
        facts = "".join(f"{name}:{git_oid(content)}" for name, content in sorted(tree.items()))
        sha = hashlib.sha1(f"{len(self.commits)} {branch} {facts}".encode()).hexdigest()
        self.commits.append((sha, tree))
        self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """The hash that a branch, a tag or a hash names."""
        if revision in self.branches or revision in self.tags:
            return self.branches.get(revision) or self.tags[revision]
        return revision if any(sha == revision for sha, _ in self.commits) else None

    def tree(self, sha: str) -> dict[str, bytes]:
        """The files of a commit; none for an unknown one."""
        return next((tree for known, tree in self.commits if known == sha), {})


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]


class HubServer(ThreadingHTTPServer):
    """The server; it listens on a free port of 127.0.0.1 from `with` to its end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[Seen] = []
        self.faults: list[Callable[[Handler], bool]] = []

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: tests cut connections on purpose."""

    def paths(self, method: str = "") -> list[str]:
        """The paths that were asked for, in order."""
        return [seen.path for seen in self.requests if method in ("", seen.method)]


def git_oid(content: bytes) -> str:
    """The hash git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(path: str, size: int) -> bool:
    """Whether the Hub keeps a file of this name and size outside git."""
    return path.endswith(LFS_SUFFIXES) or size > 10_000_000


def etag(path: str, content: bytes) -> str:
    """What the Hub states as a file's ETag: SHA-256 for large files, git's hash for others."""
    return hashlib.sha256(content).hexdigest() if is_lfs(path, len(content)) else git_oid(content)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def handle_one(self) -> None:
        """Finds the route of the request and answers it."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self.read_chunks()
        self.parts = urlsplit(self.path)
        self.server.requests.append(
            Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        )
        if any(fault(self) for fault in list(self.server.faults)):
            return
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, self.parts.path)
            if match and self.command in method.split("|"):
                answer(self, *map(unquote, match.groups()))
                return
        self.error(404, "NotFound", f"no route {self.command} {self.path}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_one

    def read_chunks(self) -> bytes:
        """A body of unknown length."""
        content = b""
        while size := int(self.rfile.readline().strip(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Sends a whole answer; a HEAD request gets the headers alone."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, content: Any, status: int = 200) -> None:
        """Sends JSON."""
        self.reply(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str, message: str = "") -> None:
        """Sends an error as the Hub does."""
        self.reply(
            status,
            json.dumps({"error": message or code}).encode(),
            {"X-Error-Code": code, "X-Error-Message": message or code, "Content-Type": "application/json"},
        )

    @property
    def authorised(self) -> bool:
        """Whether the request carries the token."""
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repo(self, name: str) -> Repo | None:
        """The repository, or None after the answer that it is not to be seen."""
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not self.authorised):
            self.error(401 if not self.authorised else 404, "RepoNotFound", "Repository not found")
            return None
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str | None:
        """The commit of a revision, or None after the answer that there is none."""
        sha = repo.resolve(revision)
        if sha is None:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def writer(self) -> bool:
        """Whether the request may write; answers where it may not."""
        if not self.authorised:
            self.error(401, "Unauthorized", "Invalid credentials in Authorization header")
        return self.authorised

    def create(self) -> None:
        """POST /api/repos/create"""
        if not self.writer():
            return
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        url = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repos:
            self.json({**url, "error": "You already created this model repo"}, 409)
            return
        self.server.repos[name] = repo = Repo(private=wanted.get("visibility") == "private")
        repo.commit({".gitattributes": b"*.onnx filter=lfs\n"})
        self.json(url)

    def who(self) -> None:
        """GET /api/whoami-v2"""
        if self.writer():
            self.json({"name": "tester", "type": "user", "auth": {"accessToken": {"role": "write"}}})

    def validate(self) -> None:
        """POST /api/validate-yaml"""
        text = json.loads(self.body)["content"]
        errors = [] if text.startswith("---\n") else [{"message": "no metadata"}]
        self.json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def branch(self, name: str, branch: str) -> None:
        """POST /api/models/ID/branch/NAME"""
        if not self.writer() or (repo := self.repo(name)) is None:
            return
        if branch in repo.branches:
            self.json({"error": "exists"}, 409)
            return
        repo.branches[branch] = repo.branches["main"]
        self.json({})

    def preupload(self, name: str, revision: str) -> None:
        """POST /api/models/ID/preupload/REV"""
        if not self.writer() or (repo := self.repo(name)) is None or (sha := self.commit_of(repo, revision)) is None:
            return
        tree = repo.tree(sha)
        self.json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if is_lfs(file["path"], file["size"]) else "regular",
                        "shouldIgnore": False,
                        "oid": etag(file["path"], tree[file["path"]]) if file["path"] in tree else None,
                    }
                    for file in json.loads(self.body)["files"]
                ]
            }
        )

    def lfs_batch(self, name: str) -> None:
        """POST /ID.git/info/lfs/objects/batch"""
        if not self.writer() or self.repo(name) is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            facts = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.blobs:
                facts["actions"] = {
                    "upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"},
                    "verify": {"href": f"{self.server.url}/lfs-verify"},
                }
            objects.append(facts)
        self.json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        """PUT /lfs/OID"""
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.error(400, "BadRequest", "the content has another hash")
            return
        self.server.blobs[oid] = self.body
        self.reply(200)

    def lfs_verify(self) -> None:
        """POST /lfs-verify"""
        facts = json.loads(self.body)
        good = len(self.server.blobs.get(facts["oid"], b"")) == facts["size"]
        self.reply(200 if good else 404)

    def commit(self, name: str, revision: str) -> None:
        """POST /api/models/ID/commit/REV: one JSON object a line"""
        if not self.writer() or (repo := self.repo(name)) is None or self.commit_of(repo, revision) is None:
            return
        files, deleted = {}, []
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                deleted.append(value["path"])
        request = parse_qs(self.parts.query).get("create_pr") == ["1"]
        branch = f"refs/pr/{sum(name.startswith('refs/pr/') for name in repo.branches) + 1}" if request else revision
        repo.branches.setdefault(branch, repo.branches["main"])
        sha = repo.commit(files, branch, tuple(deleted))
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"}
        if request:
            answer["pullRequestUrl"] = f"{self.server.url}/{name}/discussions/{branch.rsplit('/')[-1]}"
        self.json(answer)

    def info(self, name: str, revision: str = "main") -> None:
        """GET /api/models/ID and …/revision/REV"""
        if (repo := self.repo(name)) is None or (sha := self.commit_of(repo, revision)) is None:
            return
        self.json(self.facts(name, repo, sha))

    def facts(self, name: str, repo: Repo, sha: str) -> dict[str, Any]:
        """What the Hub tells of a repository."""
        return {
            "id": name,
            "modelId": name,
            "sha": sha,
            "private": repo.private,
            "tags": ["timm", "face-recognition"],
            "lastModified": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in sorted(repo.tree(sha))],
        }

    def models(self) -> None:
        """GET /api/models?author=OWNER"""
        author = parse_qs(self.parts.query).get("author", [""])[0]
        self.json(
            [
                self.facts(name, repo, repo.branches["main"])
                for name, repo in sorted(self.server.repos.items())
                if name.startswith(f"{author}/") and (not repo.private or self.authorised)
            ]
        )

    def files(self, name: str, revision: str) -> None:
        """GET /api/models/ID/tree/REV?recursive=true"""
        if (repo := self.repo(name)) is None or (sha := self.commit_of(repo, revision)) is None:
            return
        entries = []
        for path, content in sorted(repo.tree(sha).items()):
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            if is_lfs(path, len(content)):
                entry["lfs"] = {"oid": etag(path, content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self.json(entries)

    def resolve(self, name: str, revision: str, path: str) -> None:
        """HEAD and GET /ID/resolve/REV/FILE, with Range"""
        if (repo := self.repo(name)) is None or (sha := self.commit_of(repo, revision)) is None:
            return
        content = repo.tree(sha).get(path)
        if content is None:
            self.reply(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            return
        self.send_file(path, content, sha)

    def send_file(self, path: str, content: bytes, sha: str, **changed: str) -> None:
        """A file with the Hub's headers; `changed` replaces some (underscores stand for dashes)."""
        headers = {
            "X-Repo-Commit": sha,
            "ETag": f'"{etag(path, content)}"',
            "Accept-Ranges": "bytes",
            **{name.replace("_", "-"): value for name, value in changed.items()},
        }
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not span:
            self.reply(200, content, headers)
            return
        start, stop = int(span[1]), int(span[2]) + 1 if span[2] else len(content)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self.reply(206, content[start:stop], headers)


ID = r"/([^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", r"/api/repos/create", Handler.create),
    ("GET", r"/api/whoami-v2", Handler.who),
    ("POST", r"/api/validate-yaml", Handler.validate),
    ("POST", rf"/api/(?:models|spaces){ID}/branch/(.+)", Handler.branch),
    ("POST", rf"/api/(?:models|spaces){ID}/preupload/(.+)", Handler.preupload),
    ("POST", rf"/api/(?:models|spaces){ID}/commit/(.+)", Handler.commit),
    ("POST", rf"(?:/spaces)?{ID}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/lfs/([0-9a-f]{64})", Handler.lfs_put),
    ("POST", r"/lfs-verify", Handler.lfs_verify),
    ("GET", r"/api/models", Handler.models),
    ("GET", rf"/api/(?:models|spaces){ID}", Handler.info),
    ("GET", rf"/api/(?:models|spaces){ID}/revision/(.+)", Handler.info),
    ("GET", rf"/api/(?:models|spaces){ID}/tree/([^/]+)/?", Handler.files),
    ("HEAD|GET", rf"{ID}/resolve/([^/]+)/(.+)", Handler.resolve),
]
"""(methods, path, answer): what the client asks for in a push and a pull."""
