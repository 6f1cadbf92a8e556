"""One file from a server: taken up again where it broke off, and compared by digest."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from steppe.errors import DataError
from steppe_lab.datasets.formats.published import Download

PART = ".part"  # ending of a file that is not complete
PIECE = 2**16  # bytes
PATIENCE = 30  # seconds without a byte
TRIES = 3  # connections in a row that bring nothing new
MOST_BYTES = 2**31  # of a file whose size is not known
Report = Callable[[int, int], None]  # bytes that are there, and those of all


class _BrokenError(Exception):
    """The connection ended before the file did."""


BROKEN = (_BrokenError, http.client.HTTPException, TimeoutError, ssl.SSLError)


def fetch(download: Download, path: Path, report: Report) -> str:
    """Fetch a file; it gets its name when it is complete and as published.

    A part from before is gone on with where the server can do so and a digest tells
    whether the parts belong together.

    Args:
        download: where it is, and which it is.
        path: of the file, in a folder that exists.
        report: called with the bytes that are there and those of all, where all of them
            are known.

    Returns:
        Its SHA-256, 64 hexadecimal digits.

    Raises:
        DataError: no network, no such file, a file that is not the published one, or
            no space for it.
    """
    part = path.with_name(path.name + PART)
    try:
        if download.digest is None:
            part.unlink(missing_ok=True)
        _complete(download, part, report)
        digest = _check(download, part)
        part.rename(path)
    except OSError as error:
        raise _no_space(path, error) from error
    return digest


def digest_of(path: Path, kind: str = "sha256") -> str:
    """Digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: _new(kind)).hexdigest()


def is_published(download: Download, path: Path) -> bool:
    """Whether a file is the published one, as far as a digest is known."""
    kind, _, digest = (download.digest or "").partition(":")
    return not digest or digest_of(path, kind) == digest


def _complete(download: Download, part: Path, report: Report) -> None:
    """Connect as often as it brings something, until all bytes are there."""
    tries = 0
    while True:
        before = _size(part)
        try:
            _connect(download, part, report)
        except BROKEN as error:
            reason = str(error) or type(error).__name__
        except urllib.error.HTTPError as error:
            error.close()
            raise DataError(
                f"{download.url} is not to be had: the server answered {error.code} "
                f"{error.reason}; look for the file at its publisher."
            ) from error
        except urllib.error.URLError as error:
            raise _unreachable(download.url, str(error.reason)) from error
        except ConnectionError as error:
            reason = error.strerror or type(error).__name__
        else:
            return
        tries = 0 if _size(part) > before else tries + 1
        if tries == TRIES:
            raise DataError(
                f"the download of {download.url} broke off after {_size(part):,} bytes "
                f"({reason}); run the command again to go on."
            )


def _connect(download: Download, part: Path, report: Report) -> None:
    """One connection, from the first byte that is not there yet."""
    start = _size(part)
    if download.size is not None and start >= download.size:
        if start == download.size:
            return
        start = 0
    headers = {"User-Agent": "steppe", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(download.url, headers=headers)
    if urlsplit(download.url).scheme not in ("http", "https"):
        raise DataError(f"downloads are by http or https, got {download.url}.")
    try:
        response = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        part.unlink()  # of another file than the one there now
        raise _BrokenError("its part was of another file") from error
    with response:
        _receive(response, download, part, start, report)


def _receive(
    response: Any, download: Download, part: Path, start: int, report: Report
) -> None:
    # A server that knows no ranges answers 200 and begins at the first byte.
    if response.status != http.client.PARTIAL_CONTENT or not start:
        start = 0
    else:
        sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if sent is None or int(sent[1]) != start:
            part.unlink()
            raise _BrokenError("the server sent another range")
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    _check_total(download, total)
    with part.open("ab" if start else "wb") as file:
        there = _copy(response, file, start, download, total or 0, report)
    if total is not None and there < total:
        raise _BrokenError(f"of {total:,}")


def _copy(
    response: IO[bytes],
    file: IO[bytes],
    there: int,
    download: Download,
    total: int,
    report: Report,
) -> int:
    most = download.size or MOST_BYTES
    while piece := response.read(PIECE):
        there += len(piece)
        if there > most:
            raise _other_file(download, f"more than {most:,} bytes")
        file.write(piece)
        if size := download.size or total:
            report(there, size)
    return there


def _check_total(download: Download, total: int | None) -> None:
    """Refuse another file by the length that the server names, before it comes."""
    if total is None:
        return
    wanted = download.size
    if (wanted is not None and total != wanted) or total > (wanted or MOST_BYTES):
        raise _other_file(download, f"{total:,} bytes")


def _check(download: Download, part: Path) -> str:
    """The SHA-256 of a complete file; one that is not as published is removed."""
    if download.size is not None and _size(part) != download.size:
        size = _size(part)
        part.unlink()
        raise _other_file(download, f"{size:,} bytes")
    if not is_published(download, part):
        kind, _, digest = (download.digest or "").partition(":")
        other = digest_of(part, kind)
        part.unlink()
        raise DataError(
            f"{download.url} is not the published file: its {kind} is {other}, not "
            f"{digest}; it was removed, run the command again, or look for the file at "
            "its publisher."
        )
    return digest_of(part)


def _other_file(download: Download, size: str) -> DataError:
    wanted = "at most" if download.size is None else "the published"
    number = download.size or MOST_BYTES
    return DataError(
        f"{download.url} is not the published file: it has {size}, not {wanted} "
        f"{number:,}; look for the file at its publisher."
    )


def _unreachable(url: str, reason: str) -> DataError:
    host = urlsplit(url).hostname
    return DataError(
        f"{host} cannot be reached ({reason}); check the network, or fetch {url} on "
        "another machine."
    )


def _no_space(path: Path, error: OSError) -> DataError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = (
        "make room and run the command again to go on"
        if full
        else "check the permissions of its folder"
    )
    reason = error.strerror or type(error).__name__
    return DataError(f"{path} cannot be written ({reason}); {fix}.")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _new(kind: str) -> Any:
    # MD5 keeps out damage alone; it is taken where the publisher names nothing better.
    return hashlib.new(kind, usedforsecurity=False)
