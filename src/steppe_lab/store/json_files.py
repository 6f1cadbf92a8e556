"""Files that are whole or absent, and one text for one record.

Numbers: floats are written by `repr`, so they come back bit for bit. JSON has no
word for NaN and the infinities; `write_json` writes them as null, which every other
reader understands, so a result that must tell a diverged run from a missing number
says so in a field of its own. `canonical_json` refuses them: a setting has a value.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steppe.errors import SettingError, StoreError
from steppe.files import Survives, replace_file

_MOST = 2**28  # bytes of a JSON file
_STALE = getattr(errno, "ESTALE", None)  # a file replaced on a network while opened
_TRIES = 3  # to open such a file
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_SEAL = "sha256"  # key of the checksum in a record


def write_atomically(
    path: Path, data: bytes | str, *, survives: Survives = "name"
) -> None:
    """Write a whole file or nothing, synced to disk before it gets its name.

    Missing parent folders are made.

    Args:
        path: replaced when it exists.
        data: text is written as UTF-8.
        survives: a loss of power; see `steppe.files.replace_file`.

    Raises:
        StoreError: no space, no right to write, or a file where a folder must be.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        replace_file(path, raw, survives=survives)
    except OSError as error:
        raise cannot("write", path, error) from error


def cannot(verb: str, path: Path, error: OSError) -> StoreError:
    """One sentence for a refusal of the operating system."""
    reason = (error.strerror or str(error)).lower()
    return StoreError(
        f"cannot {verb} {path}: {reason}; make room or rights there, "
        "or name another folder."
    )


def write_json(path: Path, value: Any, *, survives: Survives = "name") -> None:
    """Write JSON for people and programs, atomically; NaN and infinities as null.

    Raises:
        SettingError: something in `value` is no JSON.
        StoreError: the file cannot be written.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise _no_json(error) from error
    except ValueError:
        text = json.dumps(_nulled(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n", survives=survives)


def json_line(value: Any) -> str:
    """JSON on one line; NaN and infinities as null."""
    return _finite_text(value)


def read_json(path: Path | str, fix: str = "delete it and run again") -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        fix: what to do when it is damaged, for the message.

    Raises:
        StoreError: missing, unreadable, or not whole JSON of finite numbers.
    """
    return _parsed(path, fix, parse_float=_finite)


def write_record(
    path: Path, record: Mapping[str, Any], *, survives: Survives = "name"
) -> None:
    """Write a record as JSON, atomically, with its checksum as `sha256` in it.

    Raises:
        SettingError: something in the record is no JSON.
        StoreError: the file cannot be written.
    """
    try:
        plain = json.loads(_finite_text(record))
    except TypeError as error:
        raise _no_json(error) from error
    text = _laid_out({**plain, _SEAL: digest(plain)})
    write_atomically(path, text + "\n", survives=survives)


def read_record(path: Path | str, fix: str = "delete it and run again") -> Any:
    """Read a record, and compare it with its checksum.

    One from before there were checksums is taken as it is.

    Args:
        path: the file.
        fix: what to do when it is damaged, for the message.

    Raises:
        StoreError: missing, unreadable, or not what was written.
    """
    record = _parsed(path, fix)
    if not isinstance(record, dict):
        raise StoreError(f"{path} is damaged (not a JSON object); {fix}.")
    # The checksum is of the record without it: none can hold its own digest.
    seal = record.pop(_SEAL, None)
    if seal is None:
        return read_json(path, fix)
    if seal != _digest(record, path, fix):
        raise StoreError(f"{path} is damaged (it does not match its sha256); {fix}.")
    return record


def read_settings(path: Path | str, fix: str) -> tuple[Any, str]:
    """Read settings and their digest, which names them.

    Args:
        path: the file.
        fix: what to do when it is damaged, for the message.

    Raises:
        StoreError: missing, unreadable, or not whole JSON of finite numbers.
    """
    settings = _parsed(path, fix)
    return settings, _digest(settings, path, fix)


def exists(path: Path) -> bool:
    """Whether something is there.

    Raises:
        StoreError: nobody can tell, as in a folder that leads to itself.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot("read", path, error) from error
    return True


def canonical_json(record: Any) -> str:
    """The one JSON text of a record: keys sorted, no spaces, ASCII, floats by repr.

    1 and 1.0 are different texts: a typed record decides which of them it holds.

    Raises:
        SettingError: NaN, an infinity, or something that is no JSON.

    Example:
        >>> canonical_json({"rho": 0.05, "base": "sgd", "seeds": (1, 2)})
        '{"base":"sgd","rho":0.05,"seeds":[1,2]}'
    """
    try:
        return json.dumps(
            record, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except ValueError as error:
        raise SettingError(
            f"settings must be finite numbers ({error}); leave the setting out or "
            "give it a finite value."
        ) from error
    except TypeError as error:
        raise _no_json(error) from error


def digest(record: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits.

    Runs are named by the first 16 (64 bits): among a million runs two share a name
    with a chance of 3e-8, and the store refuses the second one.

    Example:
        >>> digest({"rho": 0.05})[:16]
        'f6174d574a608ed1'
    """
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()


def _parsed(path: Path | str, fix: str, **rules: Any) -> Any:
    """The content of a JSON file; without a rule for floats some may be infinite."""
    try:
        raw = _contents(path, fix)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(f"cannot read {path}: {reason}.") from error
    try:
        return json.loads(raw, parse_constant=_finite, **rules)
    except RecursionError:
        raise StoreError(f"{path} is damaged (too deep); {fix}.") from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}); {fix}.") from error


def _digest(record: Any, path: Path | str, fix: str) -> str:
    """The digest of a record from a file, where its numbers are finite."""
    try:
        return digest(record)
    except SettingError:
        why = "a number of it is no finite number"
        raise StoreError(f"{path} is damaged ({why}); {fix}.") from None
    except RecursionError:
        raise StoreError(f"{path} is damaged (too deep); {fix}.") from None


def _contents(path: Path | str, fix: str) -> bytes:
    for attempt in range(_TRIES):
        try:
            about = os.stat(path)
            # A pipe of that name would keep us waiting for somebody to write into it.
            if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST:
                most = f"no file of at most {_MOST:,} bytes"
                raise StoreError(f"{path} is {most}; {fix}.")
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            if error.errno != _STALE or attempt == _TRIES - 1:
                raise
    raise AssertionError  # the last attempt returns or raises


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _finite_text(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:  # a number that JSON has no word for, which is rare
        return json.dumps(_nulled(value), allow_nan=False)


def _laid_out(value: Any, levels: int = 2, margin: str = "") -> str:
    """JSON with a line for each entry of its upper levels.

    Python's own layout has a line for every number, and takes longer than all else
    that is done to store a result.
    """
    inner = margin + "  "
    if levels and value and isinstance(value, dict):
        entries = (
            f"{inner}{_encode(key)}: {_laid_out(each, levels - 1, inner)}"
            for key, each in value.items()
        )
        return "{\n" + ",\n".join(entries) + f"\n{margin}}}"
    if levels and value and isinstance(value, list) and isinstance(value[0], dict):
        lines = (inner + _laid_out(each, 0, inner) for each in value)
        return "[\n" + ",\n".join(lines) + f"\n{margin}]"
    return _encode(value)


def _nulled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _nulled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nulled(item) for item in value]
    return value


def _no_json(error: TypeError) -> SettingError:
    return SettingError(
        f"only texts, numbers, true, false, none, lists and dicts are stored: {error}."
    )
