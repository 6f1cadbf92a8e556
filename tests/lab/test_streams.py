"""Streams of the command: only results on stdout, whatever the terminal is like."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from steppe_lab.cli import main

NOISY = """
import atexit, ctypes, os, subprocess, sys
from steppe_lab.cli.streams import results_apart
atexit.register(print, "at exit")
with results_apart(for_good=True) as results:
    os.write(1, b"a file descriptor\\n")
    ctypes.CDLL(None).puts(b"a library in C")
    subprocess.run(["echo", "a child process"])
    print("python")
    results.write("a result\\n")
"""


def python(code: str, **how) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, **how)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    steppe = f'"{sys.executable}" -m steppe_lab.cli'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("steppe", steppe, 1)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_what_anything_else_prints_goes_to_stderr():
    done = python(NOISY)
    assert done.stdout == b"a result\n"
    said = done.stderr.decode().splitlines()
    others = ["a file descriptor", "a library in C", "a child process", "python"]
    assert sorted(said) == sorted([*others, "at exit"])


def test_a_caller_in_the_same_process_gets_stdout_back(capfd):
    assert main(["--version"]) == 0
    os.write(1, b"after\n")
    assert capfd.readouterr().out.splitlines()[1:] == ["after"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_a_terminal_lacks_are_spelled_and_names_keep_their_bytes(encoding):
    code = """
from steppe_lab.cli.streams import results_apart
with results_apart(for_good=True) as results:
    results.write("1.6 \\N{PLUS-MINUS SIGN} 0.9 in run-\\udcff \\N{SNOWMAN}")
"""
    done = python(code, env={**os.environ, "PYTHONIOENCODING": encoding})
    expected = {
        "ascii": b"1.6 +- 0.9 in run-\xff ?",
        "latin-1": b"1.6 \xb1 0.9 in run-\xff ?",
        "utf-8": b"1.6 \xc2\xb1 0.9 in run-\xff \xe2\x98\x83",
    }
    assert (done.stdout, done.stderr) == (expected[encoding], b"")


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("steppe --help > /dev/full", 2, "steppe: the output cannot be written: no sp"),
        ("steppe --help >&-", 0, ""),
        ("steppe --help <&- >/dev/null", 0, ""),
        ("steppe --help | true", 0, ""),
        ("steppe compar 2>&-", 2, ""),
        ("steppe compar 2> /dev/full", 2, ""),
        ("env -i PYTHONPATH=$PYTHONPATH steppe --help > /dev/null", 0, ""),
    ],
)
def test_streams_that_are_full_or_closed_are_no_traceback(command, code, said):
    done = shell(command)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)


@pytest.mark.parametrize(
    "terminal", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"COLUMNS": "10"}]
)
def test_odd_terminals_get_whole_words(monkeypatch, capsys, terminal):
    for name, value in terminal.items():
        monkeypatch.setenv(name, value)
    assert main(["list", "models"]) == 0
    out = capsys.readouterr().out
    assert "small_cnn" in out
    assert "width=16" in out
    assert "\x1b" not in out
    assert main(["list", "nothing-at-all"]) == 2
    assert "'nothing-at-all'" in capsys.readouterr().err
