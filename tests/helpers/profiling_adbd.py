"""A debug daemon for adb's real client: as much of its protocol as a session needs.

Messages as in Android's ``adb/protocol.txt`` (CNXN, OPEN, OKAY, WRTE, CLSE; each with a header of six
little-endian words), and in them the shell protocol (``shell_v2``): one byte of kind, four of length.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from typing import IO

VERSION, MAX_DATA = 0x01000001, 256 * 1024  # this version leaves the checksum out
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = 0, 1, 2, 3, 4


class Shell:
    """One process behind one stream; what it writes is sent when the client has taken the rest."""

    def __init__(self, daemon: Daemon, local: int, remote: int, command: str) -> None:
        self.daemon, self.local, self.remote = daemon, local, remote
        self.ready = threading.Semaphore(0)
        self.rest = b""
        self.process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stdin, out, err = self.process.stdin, self.process.stdout, self.process.stderr
        assert stdin is not None
        assert out is not None
        assert err is not None
        self.stdin = stdin
        self.pumps = [
            threading.Thread(target=self._pump, args=(kind, stream), daemon=True)
            for kind, stream in ((STDOUT, out), (STDERR, err))
        ]
        for pump in self.pumps:
            pump.start()
        threading.Thread(target=self._finish, daemon=True).start()

    def _write(self, kind: int, data: bytes) -> None:
        packet = struct.pack("<BI", kind, len(data)) + data
        self.daemon.send(b"WRTE", self.local, self.remote, packet)
        self.ready.acquire()

    def _pump(self, kind: int, stream: IO[bytes]) -> None:
        while data := os.read(stream.fileno(), 32768):
            self._write(kind, data)

    def _finish(self) -> None:
        for pump in self.pumps:
            pump.join()
        with contextlib.suppress(OSError):
            self._write(EXIT, bytes([self.process.wait() & 0xFF]))
            self.daemon.send(b"CLSE", self.local, self.remote)

    def take(self, data: bytes) -> None:
        """Pass what the client sent on to the process."""
        self.rest += data
        while len(self.rest) >= 5:
            kind, length = struct.unpack_from("<BI", self.rest)
            if len(self.rest) < 5 + length:
                break
            body, self.rest = self.rest[5 : 5 + length], self.rest[5 + length :]
            with contextlib.suppress(OSError):
                if kind == STDIN:
                    self.stdin.write(body)
                    self.stdin.flush()
                elif kind == CLOSE_STDIN:
                    self.stdin.close()

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.stdin.close()
        self.ready.release(1000)


class Daemon:
    """Serves one client at a time on a port of loopback."""

    def __init__(self, features: str) -> None:
        self.features = features
        self.shells: dict[int, Shell] = {}
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.client: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        word = int.from_bytes(command, "little")
        header = struct.pack("<6I", word, first, second, len(data), 0, word ^ 0xFFFFFFFF)
        with self.lock:
            assert self.client
            self.client.sendall(header + data)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert self.client
            more = self.client.recv(size - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data

    def _serve(self) -> None:
        while True:
            try:
                self.client, _ = self.listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                self._talk()
            for shell in self.shells.values():
                shell.hang_up()
            self.shells.clear()

    def _talk(self) -> None:
        while True:
            command, first, second, length, _, _ = struct.unpack("<4s5I", self._receive(24))
            data = self._receive(length)
            if command == b"CNXN":
                banner = f"device::ro.product.name=test;features={self.features}"
                self.send(b"CNXN", VERSION, MAX_DATA, banner.encode())
            elif command == b"OPEN":
                service, _, text = data.rstrip(b"\0").decode().partition(":")
                if not service.startswith("shell,v2"):
                    self.send(b"CLSE", 0, first)
                    continue
                local = len(self.shells) + 1
                self.send(b"OKAY", local, first)
                self.shells[local] = Shell(self, local, first, text)
            elif command == b"WRTE":
                self.send(b"OKAY", second, first)
                if second in self.shells:
                    self.shells[second].take(data)
            elif command == b"OKAY" and second in self.shells:
                self.shells[second].ready.release()
            elif command == b"CLSE" and second in self.shells:
                self.shells[second].hang_up()

    def stop(self) -> None:
        self.listener.close()
        if self.client:
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_RDWR)
