"""The page that a phone opens: who gets in, what may be posted, and a whole measurement with Chromium as the phone."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import CHROMIUM, needs_chromium, needs_engine, quick_page
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.profiling import stage
from edgeward.profiling.agent.stopping import half_widths, interval_ranks
from edgeward.profiling.page import page_files
from edgeward.profiling.transport import browser, open_device
from edgeward.profiling.transport.answers import understand
from edgeward.profiling.transport.page_server import LARGEST, PageServer
from edgeward.profiling.validate import problems


@pytest.fixture
def served(tmp_path: Path) -> Iterator[PageServer]:
    (tmp_path / "index.html").write_text("the page")
    (tmp_path / "secret").write_text("not for anybody")
    files = {"index.html": tmp_path / "index.html"}
    server = PageServer("127.0.0.1", 0, files, lambda posted: understand("cold", posted))
    yield server
    server.admit()
    server.close("")


def call(
    url: str, body: bytes | None = None, session: str = "", **headers: str
) -> tuple[int, bytes, Any]:
    request = urllib.request.Request(url, body, {"X-Session": session, **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_only_the_token_opens_the_page(served: PageServer) -> None:
    status, content, headers = call(served.address)
    assert (status, content) == (200, b"the page")
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    root = served.address.rpartition(served.token)[0]
    for path in ("", "index.html", f"{served.token[:-1]}x/", f"{served.token}/../{served.token}x/"):
        assert call(root + path)[0] == 404
    for path in ("secret", "../secret", "%2e%2e/secret", str(served.files["index.html"])):
        assert call(served.address + path)[0] == 404
    assert call(root + "hello", b"")[0] == 404


def test_one_page_has_the_session(served: PageServer) -> None:
    assert call(served.address + "next", b"")[0] == 403
    status, session, _ = call(served.address + "hello", b"")
    assert status == 200
    assert call(served.address + "hello", b"")[0] == 409
    assert call(served.address + "answer", b"{}", "0" * 32)[0] == 403
    assert call(served.address + "answer", b"{}", session.decode())[0] == 409  # nothing was asked
    served.admit()
    assert call(served.address + "next", b"", session.decode())[0] == 403


COLD = {"ok": True, "import_ns": 1, "load_ns": 2, "first_ns": 3}


def exchange(served: PageServer, posted: bytes, **headers: str) -> tuple[int, Any]:
    """Ask a question, post an answer; return the status of that and what came of it."""
    session = call(served.address + "hello", b"")[1].decode()
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(served.ask('{"task": "cold"}', 20, lambda: None))
        except ValueError as error:
            found.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    status, question, _ = call(served.address + "next", b"", session)
    assert (status, json.loads(question)) == (200, {"task": "cold"})
    status = call(served.address + "answer", posted, session, **headers)[0]
    asking.join(30)
    return status, found[0]


def test_an_answer_arrives(served: PageServer) -> None:
    assert exchange(served, json.dumps(COLD).encode()) == (204, COLD)


@pytest.mark.parametrize(
    ("posted", "said"),
    [
        (b"\xff{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "it:"),
        (b'{"ok": false, "kind": "weather", "message": "rain"}', "weather"),
        (json.dumps({**COLD, "load_ns": -1}).encode(), "load_ns:"),
        (json.dumps({**COLD, "load_ns": "5"}).encode(), "load_ns:"),
        (json.dumps({**COLD, "more": 1}).encode(), "more:"),
        (json.dumps({k: COLD[k] for k in ("ok", "import_ns", "load_ns")}).encode(), "first_ns:"),
    ],
)
def test_what_is_no_answer_ends_the_measurement(
    served: PageServer, posted: bytes, said: str
) -> None:
    status, found = exchange(served, posted)
    assert status == 400
    assert found.startswith("what the page posted is refused: ")
    assert said in found


def test_too_much_is_not_even_read(served: PageServer) -> None:
    session = call(served.address + "hello", b"")[1].decode()
    failed: list[str] = []

    def ask() -> None:
        with pytest.raises(ValueError, match="are allowed") as caught:
            served.ask("{}", 20, lambda: None)
        failed.append(str(caught.value))

    asking = threading.Thread(target=ask)
    asking.start()
    call(served.address + "next", b"", session)
    host, port = served.address.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), 20) as raw:
        head = f"POST /{served.token}/answer HTTP/1.1\r\nHost: x\r\nX-Session: {session}\r\nContent-Length: {LARGEST * 2}\r\n\r\n"
        raw.sendall(head.encode())
        assert b" 413 " in raw.recv(4096)
    asking.join(30)
    assert failed


def test_only_the_page_that_measured_learns_the_next_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(browser.BIND, f"127.0.0.1:{free_port('127.0.0.1')}")
    cfg = quick_page("phone")
    package = tmp_path / "package"
    (package / "dist").mkdir(parents=True)
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (package / "dist" / name).touch()
    engine = cfg.engine.model_copy(update={"package": str(package)})
    cfg = cfg.model_copy(update={"engine": engine})
    note, farewell = browser.invitation(cfg.name), []

    with open_device(cfg):
        address = note.read_text().strip()
        session = call(address + "hello", b"")[1].decode()
        asking = threading.Thread(
            target=lambda: farewell.append(call(address + "next", b"", session))
        )
        asking.start()
    asking.join(30)
    status, text, headers = farewell[0]
    assert (status, text[:4]) == (410, b"Done")
    with open_device(cfg):
        following = note.read_text().strip()
        assert following.split("/")[3] == headers["X-Following"] != address.split("/")[3]
        assert call(following)[0] == 200
        assert call(following.replace(headers["X-Following"], address.split("/")[3]))[0] == 404
    monkeypatch.setenv(browser.BIND, "203.0.113.9:8765")  # of nobody
    with pytest.raises(UserError, match=naming("--bind", "203.0.113.9")):
        open_device(cfg).__enter__()


def logits(*shape: int, size: int) -> dict[str, Any]:
    return {"shape": list(shape), "float32": base64.b64encode(bytes(size)).decode()}


@pytest.mark.parametrize(
    "given", [logits(2, 3, size=20), logits(10**6, 10**6, size=4), {"shape": [1, 1], "float32": "?"}]
)  # fmt: skip
def test_logits_are_whole(given: dict[str, Any]) -> None:
    answer = {"ok": True, "engine": {"name": "e", "version": "1"}, "logits": logits(2, 3, size=24)}
    assert understand("decide", json.dumps(answer).encode()) == answer
    with pytest.raises(ValueError, match="logits: float32"):
        understand("decide", json.dumps({**answer, "logits": given}).encode())


HOST: dict[str, Any] = {
    "machine": "aarch64", "cpu": None, "cores": 8, "cores_usable": 1, "instructions": [], "virtual": False, "memory_bytes": None,
    "system": "Android", "python": None, "browser": {"name": "a", "isolated": False, "secure": False},
}  # fmt: skip
UNSEEN = {
    "load_average": None, "own_cpu_s": None, "preempted": None, "major_faults": None, "other_cpu_s": None, "steal_s": None,
    "throttled": None, "clock_mhz": [None, None], "hottest_c": [None, None], "cooling": [None, None], "hidden": 0,
}  # fmt: skip
TURNS = {
    "ok": True, "engine": {"name": "e", "version": "1"}, "providers": ["wasm"], "host": HOST, "threads": 1, "duration_ns": 9,
    "order": [[0, 1]], "samples_ns": [[[1, 2], [3, 4]]], "refused": [[2, "no such operator"]], "conditions": UNSEEN,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"samples_ns": [[[1, 2], [3]]]}, "not alike"),
        ({"samples_ns": [[[1, 2], [3, 4]], [[1, 2]]]}, "not alike"),
        ({"samples_ns": [[[0, 0], [3, 4]]]}, "is 0"),
        ({"refused": [["0", "x"]]}, "refused"),
        ({"refused": [[0]]}, "refused"),
        ({"host": {**HOST, "user": "me"}}, "host.user"),
        ({"conditions": {**UNSEEN, "hidden": -1}}, "conditions.hidden"),
    ],
)
def test_models_in_turns_are_rounds_of_equal_blocks(changed: dict[str, Any], said: str) -> None:
    assert understand("interleave", json.dumps(TURNS).encode()) == TURNS
    with pytest.raises(ValueError, match=said):
        understand("interleave", json.dumps({**TURNS, **changed}).encode())


def test_with_a_certificate_the_page_comes_by_https(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    both = tmp_path / "both.pem"
    command = [
        *["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x"],
        "-keyout",
        str(both),
    ]
    certificate = tmp_path / "cert"
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    both.write_text(both.read_text() + certificate.read_text())
    server = PageServer("127.0.0.1", 0, {"index.html": both}, lambda _: None, certificate=both)
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.check_hostname = False
    assert server.address.startswith("https://")
    with urllib.request.urlopen(server.address, timeout=10, context=trusting) as answer:
        assert answer.read() == both.read_bytes()
    server.close("")


PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def visitor() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing (extra 'dev')")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def lan_address() -> str | None:
    """Return an address of this machine that a browser does not take for its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        found = str(probe.getsockname()[0])
    return None if found.startswith("127.") else found


def free_port(bind: str) -> int:
    with socket.create_server((bind, 0)) as taken:
        return int(taken.getsockname()[1])


class Measurement(threading.Thread):
    """The stage in a thread, as it waits for a phone."""

    def __init__(self, work: Any, cfg: Any) -> None:
        super().__init__(daemon=True)
        self.work, self.note = work, browser.invitation(cfg.name)
        self.failed: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.failed = error

    def address(self) -> str:
        for _ in range(600):
            if self.note.is_file() and (text := self.note.read_text().strip()):
                return text
            if self.failed:
                raise self.failed
            self.join(0.05)
        raise TimeoutError


@needs_chromium
@needs_engine
@pytest.mark.parametrize("network", ["here", "lan"])
def test_a_phone_measures(
    network: str, visitor: Any, fp32_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = "127.0.0.1" if network == "here" else lan_address()
    if bind is None:
        pytest.skip("this machine has no address on a network")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(browser.BIND, f"{bind}:{free_port(bind)}")
    cfg = quick_page("phone", parity={"images": 2}, batch=1 if network == "here" else 128)
    out = tmp_path / "phone.json"
    measuring = Measurement(lambda: stage.run(cfg, model=fp32_model, out=out), cfg)
    address = measuring.address()
    assert (measuring.note.stat().st_mode & 0o777) == 0o600
    page = visitor.new_context(viewport=PHONE).new_page()
    page.goto(address)
    page.click("#start")
    page.locator("#state", has_text="Done").wait_for(timeout=120_000)
    assert f"1 thread, batch {cfg.batch}: median" in page.inner_text("#results")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.screenshot(path=str(tmp_path / "phone.png"))
    measuring.join(30)
    assert measuring.failed is None
    found = json.loads(out.read_text())
    assert problems(found) == []
    isolated = network == "here"
    assert found["host"]["browser"]["isolated"] is isolated
    assert found["host"]["browser"]["secure"] is isolated
    (setting,) = found["settings"]
    assert setting["parity"]["passed"]
    assert setting["conditions"]["other_cpu_s"] is None
    # A coarse clock is told, and judged against the median.
    step_ms = setting["conditions"]["step_ns"] / 1e6
    assert step_ms <= 0.01 if isolated else step_ms >= 0.05
    coarse = step_ms > cfg.half_width * setting["latency_ms"]["p50"]["estimate"]
    assert any("the page's clock steps by" in reason for reason in setting["reasons"]) is coarse
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)
    assert not measuring.note.exists()
    page.context.close()


@needs_chromium
@needs_engine
def test_a_file_that_is_not_the_one_meant_is_not_measured(
    visitor: Any, fp32_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(browser.BIND, f"127.0.0.1:{free_port('127.0.0.1')}")
    cfg = quick_page("phone")
    question = {
        "task": "decide", "model": str(fp32_model), "sha256": "0" * 64, "engine": cfg.engine.model_dump(),
        "threads": 1, "batch": 1, "inputs": None,
    }  # fmt: skip

    def work() -> None:
        with open_device(cfg) as device:
            device.ask(question)

    measuring = Measurement(work, cfg)
    page = visitor.new_context(viewport=PHONE).new_page()
    page.goto(measuring.address() + "#now")
    measuring.join(60)
    digest = hashlib.sha256(fp32_model.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=naming(digest, "0" * 64)):
        raise measuring.failed or AssertionError
    page.locator("#state", has_text="Broken off").wait_for()
    page.context.close()


@needs_chromium
@needs_engine
def test_the_page_computes_what_the_agent_does(visitor: Any) -> None:
    files, _ = page_files({"name": "onnxruntime_web", "package": str(quick_page("browser").engine.model_dump()["package"])})  # fmt: skip
    server = PageServer("127.0.0.1", 0, files, lambda _: None)
    page = visitor.new_page()
    page.goto(server.address)
    for n in (0, 1, 55, 56, 63, 64, 65, 1000):
        data = bytes(range(256)) * 4
        script = "async ([path, data]) => (await import(path)).digest(Uint8Array.from(data))"
        found = page.evaluate(script, [f"/{server.token}/sha256.js", [*data[:n]]])
        assert found == hashlib.sha256(data[:n]).hexdigest()
    script = "async ([path, name, given]) => (await import(path))[name](...given)"
    at = f"/{server.token}/stopping.js"
    for n, share, confidence in [(5, 0.5, 0.95), (6, 0.5, 0.95), (200, 0.9, 0.95), (3000, 0.99, 0.9), (28, 0.9, 0.95), (29, 0.9, 0.95)]:  # fmt: skip
        found = page.evaluate(script, [at, "intervalRanks", [n, share, confidence]])
        assert tuple(found) == interval_ranks(n, share, confidence)
    samples = np.random.default_rng(0).gamma(3, 1, 500)
    found = page.evaluate(script, [at, "halfWidths", [samples.tolist(), [50, 90], 0.95]])
    assert found == pytest.approx(half_widths(samples, [50, 90], 0.95))
    server.admit()
    server.close("")
