"""Leases: one process at a time does a work, and a dead one does not block it.

A lease is a file, created exclusively, that names its holder; its time of last
change is the heartbeat. It is stale when the heartbeat is old, by the clock of the
file system, or when the holder was a process of this host that is gone.

What network file systems must do, and NFS of version 3 and later, Lustre and GPFS do:
a link, or a file that is opened to be created, fails where the name is taken, for all
clients; a rename is one act; a file that is opened shows what was written before it
was closed elsewhere. Attributes may be old until a file is opened, so that heartbeats
are read from files that are open. Locks of the file system are not used.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from steppe.files.whole import TEMPORARY

_WATCHED = 2.5  # seconds in which a holder that lives renews its lease


@dataclass(frozen=True)
class Lease:
    """The right to do one work, until released or stolen."""

    path: Path
    token: str  # drawn at random; whoever finds another one there has lost the lease

    def beat(self) -> bool:
        """Renew the lease; False when it is no longer ours."""
        if not self.held():
            return False
        # A beat may fail where a network file system is away; the next is soon.
        with contextlib.suppress(OSError):
            os.utime(self.path)
        return True

    def held(self) -> bool:
        """Whether the file is there and still ours."""
        return _read(self.path).get("token") == self.token

    def release(self) -> None:
        """Remove the lease, if it is still ours."""
        if self.held():
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def create(path: Path) -> Lease | None:
    """Take a free lease; None when somebody has it.

    Raises:
        OSError: the file cannot be written.
    """
    token = secrets.token_hex(8)
    pid = os.getpid()
    holder = {"host": host(), "pid": pid, "started": started(pid), "token": token}
    return Lease(path, token) if _create(path, holder) else None


def is_stale(path: Path, stale_after: float) -> bool:
    """Whether a lease is there and its holder is gone or silent.

    Args:
        path: the lease file.
        stale_after: seconds without a heartbeat after which the holder counts as gone.
    """
    beat = _heartbeat(path)
    if beat is None:
        return False
    if _lives_here(_read(path)) is False:
        return True
    # A holder that lives beats every second, by the same clock: a heartbeat far in the
    # future is of one that is gone, and the clock has been set back since.
    return abs(_clock(path.parent) - beat) > stale_after


def break_stale(path: Path, stale_after: float) -> bool:
    """Remove a stale lease; True when this call removed it.

    Breakers take turns by a lease of their own, so that none removes the lease another
    one has just created; only that of a breaker killed in the act is taken unguarded.
    """
    if not is_stale(path, stale_after) or _beats_again(path):
        return False
    turn = path.with_name(f".{path.name}.breaker")
    token = _read(turn).get("token")
    if is_stale(turn, stale_after):
        take_away(turn, token)
    guard = create(turn)
    if guard is None:
        return False
    with guard:
        # Read again: another breaker may have been here before our turn came.
        token = _read(path).get("token")
        return is_stale(path, stale_after) and take_away(path, token)


def take_away(path: Path, token: str | None) -> bool:
    """Remove the lease with this token; any other there is put back."""
    taken = path.with_name(f".{path.name}.{secrets.token_hex(6)}.stolen")
    # Renamed, not unlinked: of several that try, the file system lets one succeed, and
    # the token can be read again where nobody else looks.
    try:
        path.rename(taken)
    except OSError:
        return False
    holder = _read(taken)
    same = holder.get("token") == token
    # Somebody took the work between our look and the rename: the lease is theirs.
    if not same:
        _create(path, holder)
    try:
        taken.unlink()
    except OSError:  # somebody made a folder of that name
        shutil.rmtree(taken, ignore_errors=True)
    return same


@functools.cache
def host() -> str:
    """This computer since its start, and process namespace: where a pid says whose."""
    try:
        # Computers that were copied share their name, and namespaces their numbers.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def started(pid: int) -> int | None:
    """When a process began, in clock ticks after boot; None where /proc is not."""
    fields = _proc_stat(pid)
    return int(fields[19]) if fields else None


def is_alive(pid: int, start: int | None) -> bool:
    """Whether the process that began at `start` still runs.

    Args:
        pid: its number; numbers are used again.
        start: what `started` said of it; None compares the number alone.
    """
    if pid < 1:  # names groups of processes, and none is a holder
        return False
    if os.name != "posix":  # signal 0 does not ask there, it kills
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        pass
    fields = _proc_stat(pid)
    if not fields:
        return True
    return fields[0] not in "ZX" and start in (None, int(fields[19]))


def _proc_stat(pid: int) -> list[str]:
    # The second field is the command in brackets, which may hold spaces.
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _lives_here(holder: dict[str, Any]) -> bool | None:
    """Whether a holder of this host lives; None where that cannot be seen."""
    # Without a pid the file is being written or was cut off: only its age speaks.
    if holder.get("host") != host() or type(holder.get("pid")) is not int:
        return None
    return is_alive(holder["pid"], holder.get("started"))


def _beats_again(path: Path) -> bool:
    """Whether the holder of a lease that is old lives here and renews it."""
    # A clock that jumped makes all leases old at once, until their next heartbeat.
    beat, end = _heartbeat(path), time.monotonic() + _WATCHED
    while _lives_here(_read(path)) and _heartbeat(path) == beat:
        if time.monotonic() > end:
            return False
        time.sleep(_WATCHED / 50)
    return _heartbeat(path) != beat


def _heartbeat(path: Path) -> float | None:
    """When a lease was renewed last; None where there is none."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        with contextlib.suppress(OSError):
            return path.stat().st_mtime  # it cannot be read, but it is there
        return None


def _clock(folder: Path) -> float:
    # The time of a file just made there: hosts that share the folder share this clock.
    probe = folder / f".clock.{secrets.token_hex(6)}{TEMPORARY}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError:
        return time.time()
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            probe.unlink()


def _create(path: Path, holder: dict[str, Any]) -> bool:
    # Whole before it has its name: a process may be killed at any moment, and a lease
    # without its holder would block the work until it is old.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY}")
    try:
        _write(draft, holder)
        return _link(draft, path, holder)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _link(draft: Path, path: Path, holder: dict[str, Any]) -> bool:
    # Like O_EXCL, a link makes looking and taking one act, on network file systems too.
    try:
        os.link(draft, path)
    except FileExistsError:
        # A server whose answer was lost is asked twice, and finds its own link.
        with contextlib.suppress(FileNotFoundError):
            return draft.stat().st_nlink == 2
        return False
    except FileNotFoundError:  # swept away by the process that has the lease
        return False
    except OSError:  # a file system without links
        try:
            _write(path, holder)
        except FileExistsError:
            return False
    return True


def _write(path: Path, holder: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        text = memoryview(json.dumps(holder).encode())
        while text:
            text = text[os.write(descriptor, text) :]
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}
