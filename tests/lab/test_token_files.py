"""Tokens of parallel text in files, which `steppe prepare` writes once."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save

from parallel_text import pairs, prepared_multi30k, write_multi30k, write_pairs
from steppe.errors import DataError
from steppe_lab.cli import main
from steppe_lab.datasets import Selection, load
from steppe_lab.datasets.pairs import PairSamples
from steppe_lab.datasets.vocabulary import Vocabulary
from steppe_lab.tasks import TASKS
from steppe_lab.training.readiness import check_ready
from steppe_lab.training.recipe import Recipe

TRAIN = "multi30k/bpe.60.train.de.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return prepared_multi30k(tmp_path_factory.mktemp("data"))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "data")


def fingerprint(folder, data="multi30k:vocabulary=60"):
    return Selection().apply(load(data, folder)).fingerprint


def without_encoding(monkeypatch):
    def encode(self, sentences):
        raise AssertionError("encoded again")

    monkeypatch.setattr(Vocabulary, "encode", encode)


@pytest.mark.parametrize("way", ["de-en", "en-de"])
def test_tokens_of_files_are_those_of_the_text(way, folder, tmp_path, monkeypatch):
    write_multi30k(tmp_path / "plain")
    data = f"multi30k:vocabulary=60,direction={way}"
    plain = load(data, tmp_path / "plain")
    without_encoding(monkeypatch)
    mapped = load(data, folder)
    assert fingerprint(folder, data) == Selection().apply(plain).fingerprint
    for one, other in ((plain.train, mapped.train), (plain.test, mapped.test)):
        (a, b), c = one.batch(slice(0, 9))
        (d, e), f = other.batch(slice(0, 9))
        assert all(torch.equal(x, y) for x, y in ((a, d), (b, e), (c, f)))
        assert (one.sources, one.references) == (other.sources, other.references)
    assert (plain.classes, plain.notes) == (mapped.classes, mapped.notes)


def test_the_command_encodes_once(folder, capsys):
    words = ["prepare", "multi30k", "--vocabulary", "60", "--data-dir", str(folder)]
    stood = (folder / TRAIN).stat().st_mtime_ns
    assert main(words) == 0
    assert "the tokens of all parts were there" in capsys.readouterr().out
    assert (folder / TRAIN).stat().st_mtime_ns == stood
    (folder / TRAIN).unlink()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoded"] is True


def test_a_vocabulary_that_lost_its_record_is_prepared_again(folder, made):
    record = folder / "multi30k/bpe.60.json"
    whole = record.read_bytes()
    record.unlink()
    with pytest.raises(DataError, match="needs a vocabulary"):
        load("multi30k", folder)
    prepared_multi30k(folder)
    assert record.read_bytes() == whole
    assert fingerprint(folder, "multi30k") == fingerprint(made)


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", [TRAIN, "multi30k/bpe.60.tokens.json"])
@pytest.mark.parametrize("damage", [flip, lambda path: path.unlink()])
def test_damaged_tokens_are_not_read_and_are_encoded_again(
    name, damage, folder, made, monkeypatch
):
    whole = (folder / name).read_bytes()
    damage(folder / name)
    assert fingerprint(folder) == fingerprint(made)
    with monkeypatch.context() as patched:
        without_encoding(patched)
        with pytest.raises(AssertionError, match="encoded again"):
            load("multi30k", folder)
    prepared_multi30k(folder)
    assert (folder / name).read_bytes() == whole


def test_tokens_of_other_text_are_not_read(folder, made):
    write_pairs(folder / "multi30k", "val", pairs(12, 70))
    data = load("multi30k", folder)
    assert data.validation.references == tuple(pairs(12, 70)["en"])
    assert data.train.references == load("multi30k", made).train.references


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", lambda old: old + 60),
        ("tokens", lambda old: old.int()),
        ("token_starts", lambda old: old.flip(0)),
        ("token_starts", lambda old: old[:-1]),
        ("letter_starts", lambda old: old + 1),
        ("letters", lambda old: old.to(torch.int16)),
    ],
)
def test_tokens_that_contradict_each_other_are_refused(name, value, folder):
    path, record = folder / TRAIN, folder / "multi30k/bpe.60.tokens.json"
    tensors = load_file(path)
    content = save({**tensors, name: value(tensors[name]).contiguous()})
    path.write_bytes(content)
    about = json.loads(record.read_text())
    about["files"][path.name] = hashlib.sha256(content).hexdigest()
    record.write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"tokens that contradict .* again\.$"):
        load("multi30k", folder)


def test_a_large_text_without_tokens_says_so(tmp_path):
    folder = tmp_path / "wmt14"
    for seed, stem in enumerate(("train", "newstest2013", "newstest2014")):
        write_pairs(folder, stem, pairs(60, seed))
    sized = ["--vocabulary", "60", "--data-dir", str(tmp_path)]
    assert main(["prepare", "wmt14", *sized]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("wmt14", tmp_path)
    (folder / "bpe.60.tokens.json").unlink()
    sentence = r"encoded each time .* not in .*`steppe prepare wmt14 --vocabulary 60"
    with pytest.warns(UserWarning, match=sentence):
        assert len(load("wmt14", tmp_path).train) == 60


def test_counts_of_tokens_are_those_of_the_targets(folder):
    samples = load("multi30k", folder).train
    task = TASKS.build("translation")
    for rows in (slice(3, 30), torch.tensor([5, 1, 40])):
        counts = task.terms(samples.targets_at(rows))
        assert torch.equal(task.terms_of(samples, rows), counts)


def test_no_padded_targets_are_made_of_all_samples(folder, monkeypatch):
    monkeypatch.setenv("STEPPE_DATA_DIR", str(folder))
    padded = property(lambda self: pytest.fail("all targets were padded"))
    monkeypatch.setattr(PairSamples, "targets", padded)
    recipe = Recipe(
        data="multi30k",
        model="translation_transformer:d_model=8,n_head=1,n_layer=1,ffn_hidden=8",
        base="sgd",
        train_samples=40,
        batch_by="length",
    )
    split = check_ready(recipe)
    assert len(split.train) == 40
    assert split.fingerprint
