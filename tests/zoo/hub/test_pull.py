"""A pull brings one commit, whole and as its hash says; a hostile, failing or absent Hub gets nothing written.

The real client runs in processes of its own, one for all the hostile repositories: each has its own fault.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import hub_client
from tests.support.hub_models import tiny_onnx
from tests.support.hub_server import TOKEN, Handler, HubServer, Repo
from tests.support.small_disk import mounted
from zoo.errors import InputError
from zoo.hub.pull import ModelId, choose, is_hub_id, parse_id

COLLECT = """
import json, sys, time
time.sleep = lambda seconds: None  # between two attempts
from zoo.errors import InputError
from zoo.hub.pull import pull
outcomes = {}
for repo, files, token in json.loads(sys.argv[1]) if len(sys.argv) > 1 else PULLS:
    try:
        pulled = pull(repo, files, token=token)
        outcomes[repo] = {"commit": pulled.commit, "folder": str(pulled.folder), "files": pulled.files}
    except InputError as error:
        outcomes[repo] = {"error": str(error)}
print(json.dumps(outcomes))
assert "torch" not in sys.modules and "timm" not in sys.modules
"""


def collect(hub: HubServer, home: Path, pulls: list[tuple[str, list[str] | None, bool]], **more: object) -> dict:
    """The outcome of each pull, all in one process of the real client; its stderr under ""."""
    done = hub_client.python(hub, home, COLLECT.replace("PULLS", repr(pulls)), **more)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "": done.stderr}


def on(repo: str, name: str, answer: Callable[[Handler, bytes, str], bool], methods: str = "HEAD GET") -> Callable:
    """A fault for one file of one repository; `answer` gets the request, the true content and the commit."""

    def fault(request: Handler) -> bool:
        path = request.parts.path
        if not (
            path.startswith(f"/{repo}/resolve/") and path.endswith(f"/{name}") and request.command in methods.split()
        ):
            return False
        held = request.server.repos[repo]
        sha, tree = held.commits[-1]
        return answer(request, tree[name], sha)

    return fault


def once(answer: Callable[[Handler, bytes, str], bool]) -> Callable[[Handler, bytes, str], bool]:
    """`answer` for the first request alone."""
    left = [True]

    def first(request: Handler, content: bytes, sha: str) -> bool:
        return bool(left and left.pop()) and answer(request, content, sha)

    return first


def answered(request: Handler, content: bytes, sha: str, **headers: str) -> bool:
    request.send_file("model.onnx", content, sha, **headers)
    return True


def corrupt(request: Handler, content: bytes, sha: str) -> bool:
    """Another body of the same length under the true headers."""
    changed = bytes([content[0] ^ 1]) + content[1:]
    request.reply(200, changed, {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
    return True


def cut(request: Handler, content: bytes, sha: str) -> bool:
    """Half of the body, then a closed connection."""
    request.send_response(200)
    for name, value in {
        "Content-Length": str(len(content)),
        "X-Repo-Commit": sha,
        "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
    }.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])
    request.wfile.flush()
    request.close_connection = True
    return True


def endless(request: Handler, start: bytes, headers: dict[str, str]) -> bool:
    """A body without an announced end: `start` and then zeros, until nobody listens or 256 MiB went."""
    request.send_response(200)
    for name, value in {"Connection": "close", **headers}.items():
        request.send_header(name, value)
    request.end_headers()
    request.close_connection = True
    sent = 0
    try:
        request.wfile.write(start)
        while sent < 2**28:
            sent += request.wfile.write(bytes(2**20))
    except OSError:
        pass
    request.server.blobs["sent"] = str(sent).encode()
    return True


def longer(request: Handler, content: bytes, sha: str) -> bool:
    """What was announced, and then more and more."""
    return endless(request, content, {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})


def bomb(request: Handler, content: bytes, sha: str) -> bool:
    """A short answer that unpacks to a long one."""
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    packed = gzip.compress(content + bytes(30_000_000))
    request.reply(200, packed, {"X-Repo-Commit": sha, "ETag": etag, "Content-Encoding": "gzip"})
    return True


def unhashed(request: Handler, content: bytes, sha: str) -> bool:
    """No ETag at all."""
    request.reply(200, content, {"X-Repo-Commit": sha})
    return True


def status(code: int) -> Callable[[Handler, bytes, str], bool]:
    def answer(request: Handler, content: bytes, sha: str) -> bool:
        request.error(code, "", "no")
        return True

    return answer


def redirect(url: str) -> Callable[[Handler, bytes, str], bool]:
    def answer(request: Handler, content: bytes, sha: str) -> bool:
        etag = hashlib.sha256(content).hexdigest()
        request.reply(
            302,
            headers={
                "Location": url,
                "X-Repo-Commit": sha,
                "X-Linked-ETag": f'"{etag}"',
                "X-Linked-Size": str(len(content)),
            },
        )
        return True

    return answer


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


ONNX, TORCH = ["model.onnx"], ["config.json", "model.safetensors"]


REFUSED = {
    "evil/corrupt": "other content",
    "evil/absolute-etag": "a hash as ETag",
    "evil/climbing-etag": "a hash as ETag",
    "evil/linked-etag": "a hash as ETag",
    "evil/climbing-commit": "files of commit",
    "evil/other-commit": "files of commit",
    "evil/missing-commit": "files of commit",
    "evil/named-commit": "expected a commit",
    "evil/forbidden": "403",
    "evil/pickle": "`zoo adopt evil/pickle:pytorch_model.bin -o FOLDER`",
    "evil/external": "do not trust this model",
    "evil/external-absolute": "do not trust this model",
    "evil/external-backslash": "do not trust this model",
    "evil/downgrade": "use https",
    "evil/text": "expected an ONNX model",
    "evil/longer": "the server sends more",
    "evil/linked-longer": "the server sends more",
    "evil/bomb": "the server sends more",
    "evil/huge": "the server announces 9,000,000,000,000",
    "evil/unhashed": "could not fetch",
    "evil/always-cut": "could not fetch",
    "evil/endlessly-cut": "broke off 12 times",
    "evil/always-failing": "the server answers 500",
    "evil/private": "found none that may be seen",
    "evil/nothing": "found none that may be seen",
    "good/plain@nowhere": "no branch, tag or commit",
}
"""A repository that must be refused → a part of the sentence that says why."""


@pytest.fixture(scope="module")
def trial(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """All pulls of one client process: outcomes by repository, "home" and the requests."""
    home = tmp_path_factory.mktemp("client")
    outside = tmp_path_factory.mktemp("outside")
    for name in [*REFUSED, "good/plain", "good/failing", "good/cut", "good/external", "good/redirected", "good/moving"]:
        if name == "evil/nothing" or "@" in name:
            continue
        hub.repos[name] = Repo(private=name == "evil/private")
        hub.repos[name].commit({"model.onnx": tiny_onnx(), "README.md": name.encode(), "config.json": b"{}"})
    hub.repos["evil/forbidden"].commit({"model.safetensors": b"weights", "pytorch_model.bin": b"pickle"})
    hub.repos["evil/pickle"].commit({"pytorch_model.bin": b"pickle"})
    hub.repos["evil/external"].commit({"model.onnx": tiny_onnx(external="../../../../../etc/passwd")})
    hub.repos["evil/external-absolute"].commit({"model.onnx": tiny_onnx(external=f"{outside}/weights")})
    hub.repos["evil/external-backslash"].commit({"model.onnx": tiny_onnx(external="..\\weights")})
    hub.repos["evil/text"].commit({"model.onnx": b"this is no model\n" * 9})
    hub.repos["evil/endlessly-cut"].commit({"model.onnx": bytes(24_000_000)})  # of which the client stores a part
    weights = bytes(4 * 3 * 8)
    hub.repos["good/external"].commit({"model.onnx": tiny_onnx(external="model.onnx.data"), "model.onnx.data": weights})

    def named_commit(request: Handler) -> bool:
        if request.parts.path.startswith("/api/models/evil/named-commit"):
            request.json(
                {"id": "evil/named-commit", "sha": f"../../../{outside}", "siblings": [{"rfilename": "model.onnx"}]}
            )
            return True
        return False

    def failing_info(request: Handler, left: list[int] = [1]) -> bool:  # noqa: B006
        if request.parts.path.startswith("/api/models/good/failing") and left and left.pop():
            request.error(500, "", "no")
            return True
        return False

    def absent(request: Handler, content: bytes, sha: str) -> bool:
        request.reply(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": f"../../{outside.name}"})
        return True

    with HubServer() as cdn:

        def deliver(request: Handler) -> bool:
            request.reply(200, tiny_onnx())
            return True

        def deliver_more(request: Handler) -> bool:
            return request.path == "/longer" and endless(request, tiny_onnx(), {})

        def move(request: Handler) -> bool:
            """The branch gets another commit as soon as the first file is asked for."""
            if request.parts.path.startswith("/good/moving/resolve/") and len(hub.repos["good/moving"].commits) == 1:
                hub.repos["good/moving"].commit({"model.onnx": tiny_onnx(dim=9), "README.md": b"moved"})
            return False

        cdn.faults += [deliver_more, deliver]
        hub.faults += [
            on("evil/corrupt", "model.onnx", corrupt, "GET"),
            on("evil/absolute-etag", "model.onnx", lambda r, c, s: answered(r, c, s, ETag=f'"{outside}/etag"')),
            on("evil/climbing-etag", "model.onnx", lambda r, c, s: answered(r, c, s, ETag='"../../../../etag"')),
            on("evil/linked-etag", "model.onnx", lambda r, c, s: answered(r, c, s, X_Linked_ETag='"../../etag"')),
            on("evil/climbing-commit", "model.onnx", lambda r, c, s: answered(r, c, s, X_Repo_Commit="../../x")),
            on("evil/other-commit", "model.onnx", lambda r, c, s: answered(r, c, s, X_Repo_Commit="0" * 40)),
            on("evil/missing-commit", "model.onnx", absent),
            on("evil/forbidden", "model.safetensors", status(403)),
            on("evil/downgrade", "model.onnx", redirect("http://hub.example/model.onnx")),
            on("good/failing", "model.onnx", once(status(500)), "GET"),
            on("good/cut", "model.onnx", once(cut), "GET"),
            on("good/redirected", "model.onnx", redirect(f"{cdn.url}/model.onnx")),
            on("evil/longer", "model.onnx", longer, "GET"),
            on("evil/linked-longer", "model.onnx", redirect(f"{cdn.url}/longer")),
            on("evil/bomb", "model.onnx", bomb, "GET"),
            on("evil/huge", "model.onnx", lambda r, c, s: answered(r, c, s, X_Linked_Size="9000000000000")),
            on("evil/unhashed", "model.onnx", unhashed),
            on("evil/always-cut", "model.onnx", cut, "GET"),
            on("evil/endlessly-cut", "model.onnx", cut, "GET"),
            on("evil/always-failing", "model.onnx", status(500), "GET"),
            move,
            named_commit,
            failing_info,
        ]
        pulls: list[tuple[str, list[str] | None, bool]] = [
            (name, TORCH if name in ("evil/forbidden", "evil/pickle") else ONNX, False) for name in REFUSED
        ]
        pulls += [(name, ONNX, False) for name in ("good/plain", "good/failing", "good/cut", "good/external")]
        pulls += [("good/moving", ["README.md", "config.json", "model.onnx"], False), ("good/redirected", ONNX, True)]
        found = collect(hub, home, pulls, token=True, HF_DEBUG="1")
        elsewhere = list(cdn.requests)
    return {**found, "home": home, "outside": outside, "elsewhere": elsewhere, "requests": list(hub.requests)}


@pytest.mark.parametrize("repo", REFUSED)
def test_what_is_not_trusted_is_refused_in_a_sentence(trial: dict, repo: str) -> None:
    assert REFUSED[repo] in trial[repo].get("error", "accepted"), trial[repo]


@pytest.mark.parametrize("repo", REFUSED)
def test_nothing_of_a_refused_file_stays(trial: dict, repo: str) -> None:
    kept = [name for name in hub_client.stored(trial["home"]) if repo.replace("/", "--") in name]
    external = "external" in repo or repo == "evil/text"  # whole and as hashed: kept, but given to nobody
    assert external or not [name for name in kept if "onnx" in name or "safetensors" in name or ".incomplete" in name]


def test_nothing_is_written_outside_the_cache(trial: dict) -> None:
    assert not list(trial["outside"].iterdir())
    assert {path.name for path in trial["home"].iterdir()} <= {"hub", "assets", "token", "stored_tokens", "logs"}
    assert {path.name for path in (trial["home"] / "hub").iterdir()} <= {
        *(f"models--{name.partition('@')[0].replace('/', '--')}" for name in trial if "/" in name),
        ".locks",
        "CACHEDIR.TAG",
    }


def test_a_forbidden_safetensors_file_makes_nobody_ask_for_the_pickle(trial: dict) -> None:
    assert not [seen.path for seen in trial["requests"] if "pytorch_model" in seen.path]


@pytest.mark.parametrize("repo", ["good/plain", "good/failing", "good/cut", "good/external", "good/redirected"])
def test_a_good_model_arrives_whole_after_errors_in_between(trial: dict, hub: HubServer, repo: str) -> None:
    tree = hub.repos[repo].tree(trial[repo]["commit"])
    for name in trial[repo]["files"]:
        assert (Path(trial[repo]["folder"]) / name).read_bytes() == tree[name]


def test_no_half_file_is_left(trial: dict) -> None:
    assert not [name for name in hub_client.stored(trial["home"]) if "incomplete" in name]


def test_an_endless_body_is_cut_off(trial: dict, hub: HubServer) -> None:
    """Of 256 MiB that the server would send; the client's buffers and the system's take some."""
    assert 0 < int(hub.blobs["sent"]) < 2**27


def test_a_file_beyond_the_cap_is_not_even_asked_for(trial: dict) -> None:
    assert {seen.method for seen in trial["requests"] if "/evil/huge/resolve/" in seen.path} == {"HEAD"}


def test_all_files_are_of_the_commit_that_was_resolved_once(trial: dict, hub: HubServer) -> None:
    """The branch moved while they were fetched."""
    (first, tree), (second, _) = hub.repos["good/moving"].commits
    assert trial["good/moving"]["commit"] == first != second
    paths = [seen.path for seen in trial["requests"] if "good/moving" in seen.path]
    assert len([path for path in paths if "/revision/" in path]) == 1
    assert all(f"/resolve/{first}/" in path for path in paths if "/resolve/" in path)
    for name in trial["good/moving"]["files"]:
        assert (Path(trial["good/moving"]["folder"]) / name).read_bytes() == tree[name]


def test_all_files_together_stay_below_the_cap(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.repos["o/n"] = Repo()
        content = tiny_onnx()
        hub.repos["o/n"].commit({"model.onnx": content, "model_int8.onnx": content})
        done = hub_client.zoo(hub, tmp_path, "pull", "o/n", "--max-bytes", str(2 * len(content) - 1))
        assert done.returncode == 2 and f"at most {len(content) - 1:,} bytes more" in done.stderr, done.stderr
        assert not [name for name in hub_client.stored(tmp_path) if "int8" in name]
        done = hub_client.zoo(hub, tmp_path, "pull", "o/n", "--max-bytes", str(2 * len(content)))
        assert done.returncode == 0, done.stderr


def test_content_is_hashed_where_the_cache_has_no_links_and_xet_stays_out(tmp_path: Path) -> None:
    """As on Windows, and with the client's Xet transfers switched on, which would run outside every check."""

    def xet(request: Handler, content: bytes, sha: str) -> bool:
        route = f"{hub.url}/xet-read-token"
        return answered(
            request, content, sha, X_Xet_Hash="0" * 64, X_Xet_Refresh_Route=route, Link=f'<{route}>; rel="xet-auth"'
        )

    with HubServer() as hub:
        for name in ("evil/corrupt", "good/xet"):
            hub.repos[name] = Repo()
            hub.repos[name].commit({"model.onnx": tiny_onnx()})
        hub.faults += [on("evil/corrupt", "model.onnx", corrupt, "GET"), on("good/xet", "model.onnx", xet)]
        switches = {"HF_HUB_DISABLE_SYMLINKS": "1", "HF_HUB_DISABLE_XET": "0"}
        found = collect(hub, tmp_path, [("evil/corrupt", ONNX, False), ("good/xet", ONNX, False)], **switches)
        assert "other content" in found["evil/corrupt"]["error"]
        assert (Path(found["good/xet"]["folder"]) / "model.onnx").read_bytes() == tiny_onnx()
        assert not (Path(found["good/xet"]["folder"]) / "model.onnx").is_symlink(), "the switch did nothing"
        assert not [path for path in hub.paths() if "xet" in path.replace("good/xet", "")]
    assert [name for name in hub_client.stored(tmp_path) if "onnx" in name and "evil" in name] == []


def test_public_pulls_send_no_token(trial: dict) -> None:
    public = [seen for seen in trial["requests"] if "good/redirected" not in seen.path]
    assert public and not [seen.path for seen in public if "authorization" in seen.headers]


def test_the_token_goes_to_the_hub_alone_and_into_no_log(trial: dict) -> None:
    asked = [seen for seen in trial["requests"] if "good/redirected" in seen.path]
    assert all(seen.headers.get("authorization") == f"Bearer {TOKEN}" for seen in asked) and asked
    assert trial["elsewhere"] and not [seen for seen in trial["elsewhere"] if "authorization" in seen.headers]
    assert "Request" in trial[""]  # the client did log
    assert TOKEN not in trial[""]


def test_external_weights_run_from_the_cache(trial: dict) -> None:
    """ONNX Runtime follows the cache's links to the weights."""
    import numpy as np

    from zoo.inference.session import OnnxEmbedder

    embedder = OnnxEmbedder(Path(trial["good/external"]["folder"]) / "model.onnx", device="cpu")
    assert (embedder(np.zeros((1, 112, 112, 3), np.uint8)) == 0).all()


def test_without_the_guard_the_client_writes_outside_the_cache(tmp_path: Path) -> None:
    """The twin: the guard is what keeps a hostile ETag from being a path, not the client."""
    script = """
import contextlib, zoo.hub.pull as module
from zoo.errors import InputError
from zoo.hub.checks import Guard
module.guarded = lambda *_: contextlib.nullcontext(Guard(("", "", 0), None, 0))
with contextlib.suppress(InputError, OSError):
    module.pull("evil/etag", ["model.onnx"])
"""
    with HubServer() as hub:
        hub.repos["evil/etag"] = Repo()
        hub.repos["evil/etag"].commit({"model.onnx": tiny_onnx()})
        hub.faults.append(on("evil/etag", "model.onnx", lambda r, c, s: answered(r, c, s, ETag='"../../../../etag"')))
        (tmp_path / "home").mkdir()
        hub_client.python(hub, tmp_path / "home", script)
    assert (tmp_path / "etag").is_file() or (tmp_path / "home" / "etag").is_file()


def test_a_warm_cache_a_dead_hub_and_offline_mode(tmp_path: Path) -> None:
    """A commit makes no request; a branch is asked for once, and known without a network."""
    with HubServer() as hub:
        hub.repos["o/n"] = repo = Repo()
        first = repo.commit({"model.onnx": tiny_onnx()})
        assert collect(hub, tmp_path, [("o/n", ONNX, False)])["o/n"]["commit"] == first
        hub.requests.clear()
        assert collect(hub, tmp_path, [(f"o/n@{first}", ONNX, False)])[f"o/n@{first}"]["commit"] == first
        assert hub.requests == []
        second = repo.commit({"model.onnx": tiny_onnx(dim=9)})
        assert collect(hub, tmp_path, [("hf-hub:o/n", ONNX, False)])["hf-hub:o/n"]["commit"] == second
        hub.requests.clear()
        offline = collect(hub, tmp_path, [("o/n", ONNX, False), ("o/other", ONNX, False)], HF_HUB_OFFLINE="1")
        assert offline["o/n"]["commit"] == second and "offline" in offline[""]
        assert "offline" in offline["o/other"]["error"]
        assert hub.requests == []
    dead = collect(hub, tmp_path, [("o/n", ONNX, False), (f"o/n@{first}", ONNX, False), ("o/other", ONNX, False)])
    assert dead["o/n"]["commit"] == second and dead[f"o/n@{first}"]["commit"] == first
    assert "does not answer" in dead["o/other"]["error"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.repos["o/n"] = Repo()
        hub.repos["o/n"].commit({"model.onnx": tiny_onnx(dim=100_000)})
        found = collect(hub, tmp_path, [("o/n", ONNX, False)], largest_file=100_000)
        assert "could not store o/n" in found["o/n"]["error"], found
        assert not [name for name in hub_client.stored(tmp_path) if "blobs" in name or "snapshots" in name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with mounted(tmp_path / "disk", "256k") as folder:
        yield folder


def test_a_really_full_disk_leaves_nothing_half_written(small_disk: Path) -> None:
    with HubServer() as hub:
        hub.repos["o/n"] = Repo()
        hub.repos["o/n"].commit({"model.onnx": tiny_onnx(dim=100_000)})
        hub.repos["o/small"] = Repo()
        hub.repos["o/small"].commit({"model.onnx": tiny_onnx()})
        found = collect(hub, small_disk, [("o/n", ONNX, False), ("o/small", ONNX, False)])
        assert "No space left" in found["o/n"]["error"] and "make room" in found["o/n"]["error"], found
        assert not [name for name in hub_client.stored(small_disk) if "o--n" in name]
        assert "folder" in found["o/small"], "what fits is fetched after what did not"


def test_a_damaged_cache_is_found_and_mended(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.repos["o/n"] = Repo()
        sha = hub.repos["o/n"].commit({"model.onnx": tiny_onnx()})
        file = Path(collect(hub, tmp_path, [("o/n", ONNX, False)])["o/n"]["folder"]) / "model.onnx"
        blob = file.resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
        name = f"o/n@{sha}"
        assert "other content" in collect(hub, tmp_path, [(name, ONNX, False)])[name]["error"]
        assert "folder" in collect(hub, tmp_path, [(name, ONNX, False)])[name]


def test_names_of_models() -> None:
    assert parse_id("a/b") == parse_id("hf-hub:a/b") == ModelId("a/b")
    assert parse_id("a/b@refs/pr/1") == ModelId("a/b", "refs/pr/1")
    for wrong in ("a", "a/b/c", "a/b@", "../b", "a/..", "a/b@../../x", "a/b@x//y", "-a/b", "a/b c", "https://a/b"):
        with pytest.raises(InputError, match="owner/name"):
            parse_id(wrong)


def test_what_is_here_is_not_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert not is_hub_id("models/mine") and not is_hub_id("runs/first") and not is_hub_id("models/x.onnx")
    assert not is_hub_id("model.onnx") and not is_hub_id("first")
    assert is_hub_id("owner/name@main") and is_hub_id("hf-hub:models/mine")


def test_only_known_kinds_of_files_are_taken() -> None:
    listing = ["config.json", "model.safetensors", "model.onnx", "model_int8.onnx", "model.onnx.data", "README.md"]
    others = [
        "pytorch_model.bin",
        "x.py",
        "../model.onnx",
        "a/model.onnx",
        "model.onnx.exe",
        "head.safetensors",
        "modelé.onnx",
    ]
    assert choose(ModelId("o/n"), None, [*listing, *others]) == sorted(listing)
    with pytest.raises(InputError, match="neither"):
        choose(ModelId("o/n"), None, others)


FILES = """
import json
from zoo.errors import InputError
from zoo.hub.pull import pull_file
for repo, name in [("o/n", "onnx/model.onnx"), ("o/n", "face.pt"), ("o/n@v9", "face.pt"), ("o/n", "fase.pt"),
                   ("o/n", "../face.pt"), ("o/n", "setup.py"), ("o/n", "bad/model.onnx")]:
    try:
        print(json.dumps([str(pull_file(repo, name))]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def test_one_file_of_a_foreign_repository_is_fetched_with_the_weights_beside_it(tmp_path: Path) -> None:
    with HubServer() as hub:
        tree = {"onnx/model.onnx": tiny_onnx(external="model.data"), "onnx/model.data": bytes(96), "face.pt": b"pickle"}
        hub.repos["o/n"] = Repo()
        hub.repos["o/n"].commit({**tree, "bad/model.onnx": tiny_onnx(external="../face.pt")})
        done = hub_client.python(hub, tmp_path, FILES)
        asked = [seen.path for seen in hub.requests]
    assert done.returncode == 0, done.stderr
    nested, pickle, revision, misspelt, climbing, program, bad = map(json.loads, done.stdout.splitlines())
    assert Path(nested[0]).read_bytes() == tree["onnx/model.onnx"]
    assert Path(nested[0]).with_name("model.data").read_bytes() == bytes(96)
    assert Path(pickle[0]).read_bytes() == b"pickle"
    assert "no branch, tag or commit 'v9'" in revision
    assert misspelt == "expected fase.pt in o/n on the Hub, found none; it has face.pt"
    assert "expected the name of a model's file" in climbing and "expected the name of a model's file" in program
    assert "do not trust this model" in bad
    assert not [path for path in asked if ".." in path or "setup.py" in path]


@pytest.mark.parametrize(
    ("listing", "advice"),
    [
        (["LVFace-T.onnx", "LVFace-T.pt"], "name its file: o/n:LVFace-T.onnx"),
        (["onnx/model.onnx"], "name its file: o/n:onnx/model.onnx"),
        (["config.json", "model.safetensors"], "export it with `zoo export o/n --onnx -o FOLDER`"),
        (["face.ckpt"], "it has face.ckpt: `zoo adopt o/n:face.ckpt -o FOLDER` makes a model of it"),
        (["README.md"], "choose another model"),
    ],
)
def test_a_repository_whose_files_have_other_names_is_told_what_to_do_with(listing: list[str], advice: str) -> None:
    with pytest.raises(InputError, match=re.escape(advice)):
        choose(ModelId("o/n"), ["model.onnx"], listing)
