"""The command `steppe attack` in this process, as tests call it."""

from __future__ import annotations

import sys

from steppe_lab.cli import main


def attack_command(monkeypatch, capsys):
    """Calls the verb: exit code, text on stdout, text on stderr."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments):
        code = main(["attack", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(steppe, *arguments):
    """The sentence of a call that is refused."""
    code, out, err = steppe(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err
