"""`zoo serve` beside the same call in a Python program: latency, throughput and memory, both sides in one run.

    npm install autocannon
    python benchmarks/serve.py --autocannon node_modules/autocannon                  iresnet50, untrained
    python benchmarks/serve.py --model model.onnx --autocannon node_modules/autocannon [--peer PYTHON]
    python benchmarks/serve.py --soak MINUTES [--photos FOLDER --detector FILE]      memory; 1 % hostile requests
    python benchmarks/serve.py --detection --detector FILE       whether batches of photos would make detection cheaper

Each request carries two aligned crops, PNG in base64; the call in the program decodes the same bytes. Rounds alternate
between the two, so that other work on the machine affects them alike; the table has medians over the rounds. The load
generator runs on the same cores: its processor time, in cores, is a column of its own. `--peer` names the Python of an
environment with deepface: how long its API takes to start, and the memory that it holds idle.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from zoo import FaceVerifier
from zoo.faces.detect import load_detector
from zoo.formats.images import decode, encode_png
from zoo.machine import cores

TARGETS = [
    ("p50 of the server / of the call, 1 client", 1.3, "at most"),
    ("throughput of the server / of the call, 16 clients", 0.9, "at least"),
]


def untrained(backbone: str, path: Path) -> Path:
    """An ONNX file with the speed of a trained model."""
    import torch

    from zoo.backbones import blueprint_of, create_backbone
    from zoo.export.artifacts import write
    from zoo.export.options import Options
    from zoo.modelinfo import ModelInfo

    torch.manual_seed(0)
    model = create_backbone(backbone).eval()
    info = ModelInfo(512, backbone=backbone, stem="face", neck=blueprint_of(model).neck)
    write(model, info, path, Options())
    return path


def pictures() -> list[bytes]:
    """Two smooth crops of 112×112 as PNG, of the size that photos of faces have."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (2, 14, 14, 3), dtype=np.uint8)
    return [encode_png(cv2.resize(one, (112, 112), interpolation=cv2.INTER_CUBIC)) for one in noise]


def told(contents: list[bytes], **options: bool) -> bytes:
    """Two pictures as the body of a request."""
    fields = {name: base64.b64encode(one).decode() for name, one in zip("ab", contents, strict=True)}
    return json.dumps({**fields, **options}).encode()


@contextlib.contextmanager
def serving(model: Path, *words: str, aligned: bool = True) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server, of aligned crops or of photos: its address and its process."""
    command = [sys.executable, "-m", "zoo", "serve", "--model", str(model), "--threshold", "0.3", "--port", "0"]
    command += ["--aligned"] if aligned else []
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = None
    while url is None:
        line = process.stderr.readline()
        assert line, "the server ended"
        url = re.search(r"at (http://\S+?)/$", line)
    threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
    try:
        yield url[1], process
    finally:
        process.terminate()
        process.wait()


def megabytes(pid: int) -> float:
    """What a process holds in memory at this moment."""
    kilobytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert kilobytes is not None
    return int(kilobytes[1]) / 1024


def called(verifier: FaceVerifier, contents: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    """The call in this program from `clients` threads: milliseconds and calls per second."""
    until = time.perf_counter() + seconds

    def client(_: int) -> list[float]:
        taken = []
        while (started := time.perf_counter()) < until:
            verifier.verify(decode(contents[0], "a"), decode(contents[1], "b")).to_json()
            taken.append(1e3 * (time.perf_counter() - started))
        return taken

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = sorted(one for found in pool.map(client, range(clients)) for one in found)
    p50, p99 = (float(np.percentile(taken, rank)) for rank in (50, 99))
    return {"p50": p50, "p99": p99, "rate": len(taken) / (time.perf_counter() - started), "errors": 0, "generator": 0}


def asked(autocannon: Path, url: str, body: Path, clients: int, count: int) -> dict[str, float]:
    """`count` of the same over HTTP by autocannon, each waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["-c", clients, "-a", count, "-t", 300, "-m", "POST", "-i", body, "--json", "--no-progress"]
    command = ["node", autocannon / "autocannon.js", *words, "-H", "Content-Type=application/json", f"{url}/verify"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "p50": found["latency"]["p50"],
        "p99": found["latency"]["p99"],
        "rate": found["2xx"] / found["duration"],
        "errors": found["errors"] + found["non2xx"],
        "generator": spent / found["duration"],
    }


def compare(model: Path, autocannon: Path, seconds: float, rounds: int) -> None:
    """Prints the table and the ratios that are aimed at."""
    contents, verifier = pictures(), FaceVerifier(model, aligned=True, threshold=0.3)
    rows: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, serving(model) as (url, process):
        body = Path(folder, "body")
        body.write_bytes(told(contents))
        for round_ in range(rounds + 1):
            for clients in (1, 16):
                call = called(verifier, contents, clients, seconds if round_ else 1)
                count = max(2 * clients, round(call["rate"] * seconds)) if round_ else clients
                found = {("call", clients): call, ("server", clients): asked(autocannon, url, body, clients, count)}
                for key, row in found.items() if round_ else ():  # the first round warms up
                    rows.setdefault(key, []).append(row)
        memory = megabytes(process.pid)
    middle = {
        key: {name: statistics.median(row[name] for row in some) for name in some[0]} for key, some in rows.items()
    }
    print(f"{model.name}, {os.cpu_count()} cores, {rounds} rounds of {seconds:g} s; load now {os.getloadavg()[0]:.1f}")
    print(
        "| what | clients | p50 ms | p99 ms | per second | errors | generator's cores |\n|---|---|---|---|---|---|---|"
    )
    for (what, clients), row in sorted(middle.items(), key=lambda item: item[0][1]):
        figures = (
            f"{row['p50']:.1f} | {row['p99']:.1f} | {row['rate']:.1f} | {row['errors']:.0f} | {row['generator']:.2f}"
        )
        print(f"| {what} | {clients} | {figures} |")
    ratios = [
        middle["server", 1]["p50"] / middle["call", 1]["p50"],
        middle["server", 16]["rate"] / middle["call", 16]["rate"],
    ]
    for (what, aim, side), ratio in zip(TARGETS, ratios, strict=True):
        print(f"{what}: {ratio:.2f} ({side} {aim})")
    print(f"memory of the server after it: {memory:.0f} MB")


FLAT = 0.01
"""The share of its memory by which the server may grow in the soak: the allocator keeps a buffer now and then."""
TOKEN = "soak" * 10
HOSTILE = {
    "damaged pictures": ("application/json", told([b"\x89PNG\r\n\x1a\nx", b"\xff\xd8\xff"])),
    "no pictures": ("application/json", b'{"a": "/etc/passwd", "b": "http://127.0.0.1/"}'),
    "deep JSON": ("application/json", b"[" * 200_000),
    "wrong type": ("text/xml", b"<a/>"),
    "half a form": ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name="),
    "too large": ("application/json", b"x" * 20_000_000),
}


class Client:
    """A client of the soak: one connection, and random requests of which one in a hundred is hostile."""

    def __init__(self, place: str, number: int, faces: list[str]) -> None:
        self.connection = http.client.HTTPConnection(place, timeout=60)
        self.chance, self.faces, self.person = random.Random(number), faces, f"/people/Person%20{number}"
        self.crops = told(pictures(), aligned=True)
        self.answers = Counter[tuple[str, int | str]]()

    def turn(self) -> None:
        """One request; where it enrols somebody, another one that removes them."""
        draw = self.chance.random()
        a, b = self.chance.choices(self.faces, k=2)
        if draw < 0.01:
            what, (kind, body) = self.chance.choice([*HOSTILE.items()])
            self.ask("POST", "/verify", body, f"hostile, {what}", kind)
        elif draw < 0.03:
            self.ask("POST", f"{self.person}/photos", json.dumps({"photo": a}).encode(), "enrol")
            self.ask("DELETE", self.person, None, "remove")
        elif draw < 0.05:
            self.ask("POST", "/identify", json.dumps({"picture": a, "threshold": 0.3}).encode(), "identify")
        elif draw < 0.10:
            self.ask("POST", "/detect", json.dumps({"picture": a, "crops": True}).encode(), "detect")
        elif draw < 0.20:
            self.ask("POST", "/verify", json.dumps({"a": a, "b": b}).encode(), "verify")
        else:
            self.ask("POST", "/verify", self.crops, "verify crops")

    def warm_up(self) -> None:
        """Every picture once, so that what the detector keeps for the largest photo is there when the time starts."""
        for face in self.faces:
            self.ask("POST", "/detect", json.dumps({"picture": face}).encode(), "detect")

    def ask(self, method: str, path: str, body: bytes | None, what: str, kind: str = "application/json") -> None:
        """One request, counted by what it asks for and the status, or how the connection ended.

        The server closes a connection that was idle for five seconds: a request that finds its own closed asks anew.
        """
        headers = {"Content-Type": kind, "Authorization": f"Bearer {TOKEN}"}
        for reused in (self.connection.sock is not None, False):
            try:
                self.connection.request(method, path, body, headers)
                answer = self.connection.getresponse()
                answer.read()
                status: int | str = answer.status
                break
            except (OSError, http.client.HTTPException) as error:
                self.connection.close()
                status = type(error).__name__
                if not reused or what == "hostile, too large":
                    break
        self.answers[what, status] += 1


def soak(model: Path, minutes: float, photos: list[Path], words: list[str]) -> bool:
    """Prints how memory and answers develop under load, and returns whether all is as it must be.

    Memory is flat where the line of least squares through it rises by at most the share FLAT in the last two thirds of
    the time. Every proper request must be answered with 200 or 201; a hostile one with 4xx, or by the end of the
    connection where the server stops reading a body that is too large.
    """
    faces = [base64.b64encode(photo.read_bytes()).decode() for photo in photos]
    faces = faces or [base64.b64encode(one).decode() for one in pictures()]
    with tempfile.TemporaryDirectory() as folder:
        token, seconds = Path(folder, "token"), 60 * minutes
        token.touch(0o600)
        token.write_text(TOKEN)
        words = [*words, "--gallery", f"{folder}/people.gallery", "--enrol", "--token-file", str(token)]
        with serving(model, *words, aligned=not photos) as (url, process):
            clients = [Client(url.removeprefix("http://"), number, faces) for number in range(4)]
            enrolment = json.dumps({"photo": faces[0]}).encode()
            clients[0].ask("POST", "/people/Resident/photos", enrolment, "enrol")
            with ThreadPoolExecutor(4) as pool:
                for _ in pool.map(Client.warm_up, clients):
                    pass
            started, curve = time.monotonic(), []

            def run(client: Client) -> None:
                while time.monotonic() - started < seconds:
                    client.turn()

            threads = [threading.Thread(target=run, args=(client,), daemon=True) for client in clients]
            for thread in threads:
                thread.start()
            while (now := time.monotonic() - started) < seconds and process.poll() is None:
                curve.append((now, megabytes(process.pid), sum(client.answers.total() for client in clients)))
                if len(curve) % 12 == 1:
                    print("{:6.0f} s  {:7.1f} MB  {:8,} requests".format(*curve[-1]), flush=True)
                time.sleep(min(5.0, seconds / 50))
            for thread in threads:
                thread.join()
            alive = process.poll() is None
    answers = sum((client.answers for client in clients), Counter[tuple[str, int | str]]())
    for (what, status), count in sorted(answers.items(), key=str):
        print(f"{count:8,} {what}: {status}")
    times, memory, _ = np.array([row for row in curve if row[0] > seconds / 3]).T
    slope = float(np.polynomial.Polynomial.fit(times, memory, 1).convert().coef[1])
    rise = slope * (times[-1] - times[0]) / memory[0]
    wrong = sum(count for (what, status), count in answers.items() if not proper(what, status))
    print(f"the line through the last two thirds rises by {rise:.2%} (at most {FLAT:.0%})")
    print(f"answered wrongly: {wrong} of {answers.total():,} (none)\nthe server is alive: {alive}")
    return rise <= FLAT and not wrong and alive


def proper(what: str, status: int | str) -> bool:
    """Whether a request of the soak was answered as it must be."""
    if what == "hostile, too large" and isinstance(status, str):
        return True
    return status in ((400, 413, 415, 422) if what.startswith("hostile") else (200, 201))


def detection(file: str, rounds: int) -> None:
    """Prints what one pass of YuNet costs for each picture of 640×480: alone, as the server runs it, and in batches."""
    import onnx
    import onnxruntime as ort

    detector = load_detector(file)
    proto = onnx.load_from_string(detector.content)
    del proto.graph.value_info[:]
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Reshape":  # the first side stays what it is
            sides = [0, *onnx.numpy_helper.to_array(weights[node.input[1]])[1:]]
            weights[node.input[1]].CopyFrom(onnx.numpy_helper.from_array(np.array(sides), node.input[1]))
    options = ort.SessionOptions()
    options.intra_op_num_threads = cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    photos = np.random.default_rng(0).integers(0, 256, (8, 480, 640, 3), dtype=np.uint8)
    tensors = np.ascontiguousarray(photos.transpose(0, 3, 1, 2)).astype(np.float32)
    ways: dict[str, Any] = {"OpenCV, one picture": lambda: [detector._run(photo, 0.6) for photo in photos]}
    for size in (1, 2, 4, 8):
        parts = np.split(tensors, 8 // size)
        ways[f"ONNX Runtime, batch {size}"] = lambda parts=parts: [session.run(None, {"input": p}) for p in parts]
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            if round_:  # the first round warms up
                spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    print(f"a pass of YuNet over 640×480, {cores()} threads, {rounds} rounds; load now {os.getloadavg()[0]:.1f}")
    print("| what | ms per picture | CPU ms per picture |\n|---|---|---|")
    for name, rows in spent.items():
        wall, cpu = (1e3 / len(photos) * statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {name} | {wall:.1f} | {cpu:.1f} |")


def peer(python: str) -> None:
    """Prints how deepface's API starts and what it holds idle."""
    program = "import deepface.api.src.app as a; print('up', flush=True); a.create_app().run(port=5005)"
    started = time.perf_counter()
    with subprocess.Popen([python, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as api:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1:5005", timeout=5)
            with contextlib.suppress(OSError):
                connection.request("GET", "/")
                if connection.getresponse().status < 500:
                    break
            assert api.poll() is None, "deepface's API ended"
            time.sleep(0.1)
        print(f"deepface's API: up after {time.perf_counter() - started:.1f} s, {megabytes(api.pid):.0f} MB idle")
        api.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--backbone", default="iresnet50", help="without --model")
    parser.add_argument("--autocannon", type=Path, metavar="FOLDER", help="the npm package")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="exit status 1 where memory grows")
    parser.add_argument("--detection", action="store_true", help="measure YuNet alone and in batches")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="of JPEG files with faces, for the soak")
    parser.add_argument("--detector", metavar="FILE", help="for the photos")
    parser.add_argument("--peer", metavar="PYTHON")
    args = parser.parse_args()
    if args.detection:
        detection(args.detector, args.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or untrained(args.backbone, Path(folder) / f"{args.backbone}.onnx")
        started = time.perf_counter()
        with serving(model) as (_, process):
            print(f"zoo serve: up after {time.perf_counter() - started:.1f} s, {megabytes(process.pid):.0f} MB idle")
        if args.peer:
            peer(args.peer)
        if args.soak:
            photos = sorted(args.photos.glob("*.jpg")) if args.photos else []
            words = ["--detector", args.detector] if args.detector else []
            sys.exit(not soak(model, args.soak, photos, words))
        elif args.autocannon:
            compare(model, args.autocannon, args.seconds, args.rounds)


if __name__ == "__main__":
    main()
