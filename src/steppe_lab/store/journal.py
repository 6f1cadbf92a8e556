"""A file of records that grows by a line at a time, each with its checksum.

A line that was cut off when its process ended, or was changed since, is left out when
the file is read; the others hold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steppe_lab.store.json_files import cannot, digest, json_line

_SEAL = "sha256"


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record to the end of a file; missing folders are made.

    Raises:
        StoreError: no space, or no right to write.
    """
    plain = json.loads(json_line(record))
    line = json_line({**plain, _SEAL: digest(plain)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            # Not to the end of a line that was cut off.
            cut = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0
            start = b"\n" if cut and file.read(1) != b"\n" else b""
            file.write(start + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot("write", path, error) from error


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The sound records of a file, in their order; none where there is no file.

    Raises:
        StoreError: no right to read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot("read", path, error) from error
    for line in lines:
        try:
            record = json.loads(line)
            if record.pop(_SEAL) == digest(record):
                yield record
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
