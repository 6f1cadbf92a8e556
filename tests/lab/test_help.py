"""Help: grouped options in words, with an example that the verb understands."""

import io
import itertools
import re
import shlex

import pytest

from steppe_lab import cli
from steppe_lab.cli.help import GROUPS, OTHERS, help_page, metavar
from steppe_lab.cli.parsing import parse
from steppe_lab.training.settings import option_of


@pytest.fixture(params=cli.COMMANDS)
def verb(request):
    return request.param


def page_of(verb, columns=80, monkeypatch=None):
    record = cli.verb_module(verb).Args
    if monkeypatch is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    return help_page(record, verb, cli.COMMANDS[verb])


def test_metavars_are_words(verb):
    page = page_of(verb)
    for odd in ("STR", "{None}", "INT", "FLOAT", "None", "[[", "default_factory", "()"):
        assert not re.search(rf"(?<![A-Za-z]){re.escape(odd)}(?![A-Za-z(])", page), odd


def test_every_option_stands_once_with_a_text_in_a_named_group(verb):
    page, record = page_of(verb), cli.verb_module(verb).Args
    assert f"{OTHERS}:" not in page
    for name, field in record.model_fields.items():
        assert field.description, name
        head = metavar(name, field.annotation)
        head = head if record.is_placed(name) else f"--{option_of(name)}"
        assert len(re.findall(rf"^  {re.escape(head)}(?= |$)", page, re.M)) == 1


def test_the_example_is_understood(verb):
    record = cli.verb_module(verb).Args
    words, own = shlex.split(record.example), ["steppe", *verb.split()]
    arguments = words[len(own) :]
    assert words[: len(own)] == own
    assert isinstance(parse(record, verb, "", arguments, io.StringIO()), record)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_texts_fill_their_lines(verb, columns, monkeypatch):
    page = page_of(verb, columns, monkeypatch)
    rows = page.splitlines()
    texts = [row for row in rows if row.startswith(" " * 30) and len(row.split()) > 1]
    assert all(len(row) <= min(columns, 100) for row in texts)
    # A row that stops short is followed by a word that would not have fitted, or by
    # the next option.
    for row, after in itertools.pairwise(rows):
        if after.startswith(" " * 30) and row.startswith(" " * 30):
            assert len(row) + 1 + len(after.split()[0]) > min(columns, 100)


def test_the_page_of_a_verb_names_its_subcommands():
    page = " ".join(page_of("landscape").split())
    for word, about in cli.SUBCOMMANDS["landscape"].items():
        assert f"landscape {word} {about[0].upper()}{about[1:]}." in page


def test_each_option_has_one_group():
    names = [name for members in GROUPS.values() for name in members]
    assert len(names) == len(set(names))


def test_the_page_of_the_command_names_every_verb_and_an_example(capsys):
    assert cli.main(["--help"]) == 0
    page = capsys.readouterr().out
    for verb, about in cli.VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(about)}$", page, re.M)
    verb, *arguments = shlex.split(cli.EXAMPLE)[1:]
    record = cli.verb_module(verb).Args
    assert isinstance(parse(record, verb, "", arguments, io.StringIO()), record)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["compare", "--store", "x"], "--out"),
        (["compare", "--lr", "0.1"], "--base"),
        (["compare", "--dataset", "mnist"], "--data"),
        (["train", "--network", "mlp"], "--model"),
        (["measure", "file", "--gpu"], "--device"),
        (["compare", "--batchsize", "3"], "--batch-size"),
        (["compare", "--zebra", "3"], None),
        (["list", "--store", "x"], None),
    ],
)
def test_only_a_near_or_known_word_is_taken_for_an_option(arguments, meant, capsys):
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    hint = re.search(r"did you mean (--\S+)\?", said)
    assert (hint and hint[1]) == meant
