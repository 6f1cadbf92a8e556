"""A server of files on this machine that misbehaves as it is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Files by path, and what goes wrong with each request in turn.

    Faults: "" for none, "cut N" closes after N bytes of the answer, "no ranges", "wrong
    range", "no length", "endless", a number for a status, or a place to redirect to.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], faults: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.faults = files, faults
        self.ranges: list[str] = []  # asked for

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


@contextmanager
def serving(files: dict[str, bytes], *faults: str) -> Iterator[FileServer]:
    server = FileServer(files, list(faults))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        fault = self.server.faults.pop(0) if self.server.faults else ""
        asked = self.headers.get("Range", "")
        self.server.ranges.append(asked)
        content = self.server.files.get(self.path[1:])
        if "://" in fault:
            self.answer(302, b"", Location=fault)
        elif fault.isdigit() or content is None:
            self.answer(int(fault or 404), b"")
        elif fault in WAYS:
            WAYS[fault](self, content)
        else:
            self.part(content, asked, fault)

    def part(self, content: bytes, asked: str, fault: str) -> None:
        start = int(re.sub(r"\D", "", asked) or 0)
        if start and start >= len(content):
            self.answer(416, b"")
            return
        most = int(fault.removeprefix("cut ")) if fault else len(content)
        shift = f"bytes {start}-{len(content) - 1}/{len(content)}"
        more = {"Content-Range": shift} if asked else {}
        self.answer(206 if asked else 200, content[start:], most, **more)

    def wrong_range(self, content: bytes) -> None:
        more = {"Content-Range": f"bytes 1-{len(content) - 1}/{len(content)}"}
        self.answer(206, content[1:], **more)

    def no_length(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def endless(self, _: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"\0" * 2**16)
        except OSError:
            pass

    def answer(
        self, status: int, content: bytes, most: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:most])

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


WAYS: dict[str, Callable[[_Handler, bytes], None]] = {
    "no ranges": lambda handler, content: handler.answer(200, content),
    "wrong range": _Handler.wrong_range,
    "no length": _Handler.no_length,
    "endless": _Handler.endless,
}
