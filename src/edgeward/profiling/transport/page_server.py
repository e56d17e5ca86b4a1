"""Serves the page, and hands it one question after the other.

Everything lies below a one-time token in the address. The page that says hello first has the session; whoever comes
later, or without it, is refused. Of the file system only what is named is served.
"""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}
HEADERS = {
    # Both together make the page cross-origin isolated: a fine clock, and threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
POLL_S = 10.0  # the page asks again after so long without a question
SOCKET_S = 60.0  # a connection that says nothing for so long is closed
LARGEST = 32 << 20  # bytes of an answer, and ...
PER_BYTE = 16  # ... so many more for each byte of the question, which may hold images
TOKEN = 20  # characters; five bits each
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that looks like another


class PageServer:
    """The page on one interface, for one visitor at a time.

    Parameters
    ----------
    check : takes a posted answer, returns what it says, and raises ValueError if it says nothing of use.
    certificate : file with certificate and key, for https.
    token : the first one; None: a new one.

    Attributes
    ----------
    marks : what `at_mark` returned, for each mark of the page in the current question.
    seen : time of the latest request of the visitor (monotonic), or None before the first.
    """

    def __init__(
        self,
        bind: str,
        port: int,
        files: dict[str, Path],
        check: Callable[[bytes], Any],
        at_mark: Callable[[], Any] = lambda: None,
        certificate: Path | None = None,
        token: str | None = None,
    ) -> None:
        self.files = dict(files)
        self.check, self.at_mark = check, at_mark
        self.marks: list[Any] = []
        self.seen: float | None = None
        self._turn = threading.Condition()
        self._question: bytes | None = None
        self._asked = False
        self._answer: Any = None
        self._problem: str | None = None
        self._over: str | None = None
        self._following = ""
        self.admit(token)
        server = self

        class Handler(_Handler):
            page = server

        self._http = ThreadingHTTPServer((bind, port), Handler)
        self._http.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake comes with the first reading, in the connection's own thread.
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        self._base = f"{scheme}://{bind}:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True).start()

    def admit(self, token: str | None = None) -> None:
        """Take a token, a new one by default; whoever had a session has it no more."""
        with self._turn:
            self.token = token or new_token()
            self.session: str | None = None
            self.seen = None
            self._turn.notify_all()

    @property
    def waits(self) -> bool:
        """Whether the page has nothing to do but to ask for work."""
        return not self._asked

    @property
    def address(self) -> str:
        """What has to be opened."""
        return f"{self._base}/{self.token}/"

    def ask(self, question: str, deadline_s: float, alive: Callable[[], str | None]) -> Any:
        """Hand the page a question; return its checked answer, or None if the deadline passes.

        Parameters
        ----------
        deadline_s : counts from when the page has fetched the question.
        alive : called now and then; returns why there is no use in waiting, or None.

        Raises
        ------
        ValueError
            If what the page posted is no answer, or `alive` sees no use in waiting; says why.
        """
        with self._turn:
            self._question, self._asked = question.encode(), False
            self._answer = self._problem = None
            self.marks = []
            self._turn.notify_all()
        fetched: float | None = None
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._answer is not None or self._problem, 0.2)
                if self._problem:
                    raise ValueError(self._problem)
                if self._answer is not None:
                    return self._answer
                if self._asked and fetched is None:
                    fetched = time.monotonic()
            if fetched is not None and time.monotonic() - fetched > deadline_s:
                return None
            if why := alive():
                raise ValueError(why)

    def close(self, farewell: str, following: str = "") -> None:
        """Tell the visitor that it is over, and the token of the next measurement if there may be one, and stop."""
        with self._turn:
            self._over, self._following = farewell, following
            self._turn.notify_all()
            if self.session and self._question is None:
                self._turn.wait_for(lambda: self.session is None, 5)
        self._http.shutdown()
        self._http.server_close()


def new_token() -> str:
    """Return what nobody can guess, of letters that are told apart."""
    return "".join(secrets.choice(LETTERS) for _ in range(TOKEN))


class _Handler(BaseHTTPRequestHandler):
    page: PageServer
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_S
    server_version, sys_version = "edgeward", ""

    def handle(self) -> None:
        with suppress(OSError):  # the visitor has left
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass

    def _send(
        self,
        status: int,
        content: bytes = b"",
        kind: str = "text/plain; charset=utf-8",
        following: str = "",
    ) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        if following:
            self.send_header("X-Following", following)
        if status >= 400:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _path(self) -> str | None:
        """Return the path below the token; None if the token is not the one of now."""
        _, token, *rest = [*self.path.split("?")[0].split("/"), ""]
        known = secrets.compare_digest(token.encode(), self.page.token.encode())
        return "/".join(rest).rstrip("/") if known else None

    def do_GET(self) -> None:
        path = self._path()
        file = self.page.files.get(path or "index.html") if path is not None else None
        if file is None:
            return self._send(404, b"There is nothing here. Is the address complete, and of today?")
        try:
            content = file.read_bytes()
        except OSError:
            return self._send(404, b"The file is gone.")
        self._send(200, content, KINDS.get(file.suffix, "application/octet-stream"))

    def do_POST(self) -> None:
        page, path = self.page, self._path()
        if path is None:
            return self._send(404, b"There is nothing here.")
        with page._turn:
            given = self.headers.get("X-Session", "")
            holds = page.session is not None and secrets.compare_digest(given.encode(), page.session.encode())  # fmt: skip
            if path == "hello":
                return self._hello()
            if not holds:
                return self._send(403, b"Another page measures already, or this one is too old.")
            page.seen = time.monotonic()
        match path:
            case "next":
                self._next()
            case "mark":
                page.marks.append(page.at_mark())
                self._send(204)
            case "answer":
                self._take()
            case _:
                self._send(404, b"There is nothing here.")

    def _hello(self) -> None:
        page = self.page
        if page.session is not None or page._over:
            return self._send(409, b"This address has been used. Start the measurement again for a new one.")  # fmt: skip
        page.session, page.seen = secrets.token_hex(16), time.monotonic()
        self._send(200, page.session.encode())

    def _next(self) -> None:
        page, mine = self.page, self.page.session
        with page._turn:
            page._turn.wait_for(
                lambda: page._over or page.session != mine or (page._question and not page._asked),
                POLL_S,
            )
            if page.session != mine:
                self.close_connection = True
                return None
            page.seen = time.monotonic()
            if page._over:
                page.session = None
                page._turn.notify_all()
                return self._send(410, page._over.encode(), following=page._following)
            if page._question is None or page._asked:
                return self._send(204)
            page._asked, question = True, page._question
        try:
            self._send(200, question, "application/json")
        except OSError:
            with page._turn:
                page._problem = "the page was closed, or the device has left the network"

    def _take(self) -> None:
        page = self.page
        limit = LARGEST + PER_BYTE * len(page._question or b"")
        size = self.headers.get("Content-Length", "")
        if not size.isdigit():
            return self._send(411, b"The length is missing.")
        if int(size) > limit:
            return self._refuse(413, f"{size} bytes were to be posted; {limit} are allowed")
        if page._question is None or not page._asked:
            return self._send(409, b"Nothing was asked.")
        try:
            answer = page.check(self.rfile.read(int(size)))
        except ValueError as error:
            return self._refuse(400, str(error))
        with page._turn:
            page._answer, page._question = answer, None
            page._turn.notify_all()
        self._send(204)

    def _refuse(self, status: int, problem: str) -> None:
        """End the measurement: what comes from this page is of no use."""
        with self.page._turn:
            self.page._problem, self.page._question = f"what the page posted is refused: {problem}", None  # fmt: skip
            self.page._turn.notify_all()
        with suppress(OSError):
            self._send(status, problem[:2000].encode())
