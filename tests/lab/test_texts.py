"""Texts: files of lines, vocabularies, the Penn Treebank, film reviews, languages."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from file_server import serving
from parallel_text import write_multi30k
from steppe.errors import DataError, SettingError
from steppe_lab.cli import main
from steppe_lab.datasets import DATASETS, Selection, TokenSamples, load
from steppe_lab.datasets.formats.published import Download
from steppe_lab.datasets.formats.text import read_lines
from steppe_lab.datasets.multi30k_texts import language_model, languages
from steppe_lab.datasets.words import WordVocabulary

# ---- lines --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\n\r\ntwo\r\n", ["one", "", "two"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        # Neither Unicode's line separator nor a form feed ends a line.
        ("a\u2028b\x0cc\x85d\n".encode(), ["a\u2028b\x0cc\x85d"]),
        (gzip.compress("Männer\n".encode(), mtime=0), ["Männer"]),
        (b"", []),
    ],
)
def test_lines_end_at_line_feeds_alone(raw, lines, tmp_path):
    (tmp_path / "text").write_bytes(raw)
    assert read_lines(tmp_path / "text", "get it again") == lines


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"one\ntw\xff\n", "in UTF-8, and line 2 holds the byte 0xff"),
        (gzip.compress(b"one\n" * 99, mtime=0)[:-9], "damaged or truncated gzip"),
        (gzip.compress(bytes(9999), mtime=0), "more than 1,000 bytes"),
    ],
)
def test_files_that_are_no_text_are_one_sentence(raw, sentence, tmp_path):
    (tmp_path / "text").write_bytes(raw)
    with pytest.raises(DataError, match=sentence) as caught:
        read_lines(tmp_path / "text", "get it again", most=1000)
    assert str(caught.value).endswith("; get it again.")


# ---- vocabularies -------------------------------------------------------------------


def test_words_are_numbered_by_count_then_alphabet():
    text = [["b", "a", "c"], ["c", "b"], ["c", "d"]]
    known = WordVocabulary.of(text, first=("<unk>",), least_count=1)
    assert known.words == ("<unk>", "c", "b", "a", "d")
    assert WordVocabulary.of(text, least_count=2).words == ("c", "b")
    few = WordVocabulary.of(text, first=("<unk>", "b"), most=3)
    assert few.words == ("<unk>", "b", "c")
    assert known.encode(["d", "x", "c"], "it").tolist() == [4, 0, 1]


def test_pieces_of_a_text_are_all_of_it_in_its_order():
    samples = TokenSamples.from_stream(torch.arange(10, 18), 3)
    assert samples.inputs.tolist() == [[10, 11, 12], [13, 14, 15], [16, 0, 0]]
    assert samples.targets.tolist() == [[11, 12, 13], [14, 15, 16], [17, -100, -100]]
    assert samples.contiguous
    assert samples.chosen(torch.tensor([1, 2])).contiguous
    assert not samples.chosen(torch.tensor([2, 1])).contiguous
    assert not samples.chosen(torch.tensor([0, 2])).contiguous


def test_one_text_and_single_sequences_are_not_the_same_data():
    samples = TokenSamples.from_stream(torch.arange(7), 3)
    headers = [
        [header for header, _ in each.arrays()]
        for each in (samples, replace(samples, contiguous=False))
    ]
    assert headers[0] == ["one text ", *headers[1]]


# ---- Penn Treebank ------------------------------------------------------------------

TRAIN = " the cat saw the <unk> \n the N dogs \n"


def write_ptb(folder, **parts):
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"train": TRAIN, "valid": " a dog \n", "test": " the cat \n", **parts}
    for part, text in texts.items():
        (folder / f"ptb.{part}.txt").write_text(text)


@pytest.mark.parametrize("place", ["ptb", "simple-examples/data", "."])
def test_the_treebank_is_one_text_with_an_end_after_each_line(place, tmp_path):
    write_ptb(tmp_path / place)
    data = load("ptb:steps=4", tmp_path)
    assert data.classes == ("the", "<eos>", "<unk>", "N", "cat", "dogs", "saw")
    assert data.task == "next_token"
    assert data.train.inputs.tolist() == [[0, 4, 6, 0], [2, 1, 0, 3], [5, 0, 0, 0]]
    assert data.train.targets[2].tolist() == [1, -100, -100, -100]
    assert data.test.inputs.tolist() == [[0, 4, 0, 0]]
    assert data.notes[0] == "10 training tokens, where the official set has 929,589"


def test_the_official_validation_text_is_judged_on_while_tuning(tmp_path):
    write_ptb(tmp_path)
    data = load("ptb:steps=2", tmp_path)
    split = Selection(held_out="validation").apply(data)
    # Neither word is in the training text, which has <unk> for such.
    assert split.test.inputs.tolist() == [[2, 2]]
    assert split.test.contiguous


def test_a_word_that_the_vocabulary_cannot_have_is_refused(tmp_path):
    write_ptb(tmp_path, train="the cat\n", test="the mouse\n")
    with pytest.raises(DataError, match=r"got 'mouse'; replace .* by <unk>"):
        load("ptb", tmp_path)


def test_an_empty_text_is_refused(tmp_path):
    write_ptb(tmp_path, test="")
    with pytest.raises(DataError, match="2 or more tokens, got 0"):
        load("ptb", tmp_path)


# ---- film reviews -------------------------------------------------------------------

REVIEWS = {
    "train/neg/0_1.txt": "Bad, bad film.<br /><br />It's bad!",
    "train/pos/0_9.txt": "A good film",
    "train/pos/1_9.txt": "good",
    "test/neg/0_2.txt": "an awful film",
    "test/pos/0_8.txt": "It's good",
}


def write_reviews(folder):
    for name, text in REVIEWS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("place", ["aclImdb", "imdb/aclImdb", "."])
def test_reviews_are_padded_before_and_cut_at_their_beginning(place, tmp_path):
    write_reviews(tmp_path / place)
    data = load("imdb:length=5,words=7", tmp_path)
    # 0 padding, 1 beginning, 2 unknown, then bad 3 times, br, film and good twice.
    assert data.train.in_shape == (5, 7)
    assert data.train.tokens.tolist() == [
        [5, 4, 4, 2, 3],
        [0, 1, 2, 6, 5],
        [0, 0, 0, 1, 6],
    ]
    assert data.train.targets.tolist() == [0, 1, 1]
    assert data.test.tokens.tolist() == [[0, 1, 2, 2, 5], [0, 0, 1, 2, 6]]
    assert data.classes == ("negative", "positive")
    assert data.notes[0] == "3 training reviews, where the official set has 25,000"


def test_a_class_without_reviews_is_refused(tmp_path):
    write_reviews(tmp_path)
    (tmp_path / "test" / "pos" / "0_8.txt").unlink()
    with pytest.raises(DataError, match="must hold 1 to 200,000 reviews"):
        load("imdb", tmp_path)


@pytest.mark.parametrize("setting", ["words=3", "length=0"])
def test_settings_out_of_range_are_refused(setting, tmp_path):
    write_reviews(tmp_path)
    with pytest.raises(SettingError, match=setting.partition("=")[0]):
        load(f"imdb:{setting}", tmp_path)


def test_reviews_come_from_their_publisher_where_somebody_asks(
    tmp_path, monkeypatch, capsys
):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, text in REVIEWS.items():
            info = tarfile.TarInfo(f"aclImdb/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    content = raw.getvalue()
    digest = f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
    monkeypatch.setenv("no_proxy", "*")
    with serving({"aclImdb_v1.tar.gz": content}) as server:
        there = Download(server.url("aclImdb_v1.tar.gz"), len(content), digest)
        spec = DATASETS["imdb"].spec
        published = replace(spec.published, downloads=(there,))
        entry = replace(DATASETS["imdb"], spec=replace(spec, published=published))
        monkeypatch.setitem(DATASETS._entries, "imdb", entry)
        assert main(["download", "imdb", "--data-dir", str(tmp_path)]) == 0
    capsys.readouterr()
    assert len(load("imdb", tmp_path).train) == 3


def test_the_file_of_keras_is_refused_with_the_way_out(tmp_path):
    arrays = {"x_train": np.array([[1, 2], [1]], dtype=object), "y_train": np.zeros(2)}
    (tmp_path / "imdb").mkdir()
    np.savez(tmp_path / "imdb" / "imdb.npz", **arrays)
    with pytest.raises(DataError, match="pickles that may run code") as caught:
        load("imdb", tmp_path)
    text = str(caught.value)
    assert text.endswith(".")
    assert "run `steppe download imdb --data-dir DIR`" in text
    for part in ("train", "test"):
        for kind in ("pos", "neg"):
            folder = tmp_path / "imdb" / part / kind
            folder.mkdir(parents=True)
            (folder / "0_1.txt").write_text("good film")
    assert len(load("imdb", tmp_path).train) == 2


# ---- Multi30k -----------------------------------------------------------------------

ENGLISH = ["A dog runs.", "A man, a dog."]
GERMAN = ["Ein Hund rennt.", "Ein Mann, ein Hund."]
TEXTS = {
    "train": {"en": ENGLISH, "de": GERMAN},
    "validation": {"en": ["A dog."], "de": ["Ein Hund."]},
    "test": {"en": ["A cat."], "de": ["Eine Katze."]},
}


def test_a_language_model_of_sentences_has_words_of_a_least_count():
    data = language_model(TEXTS, steps=4, least_count=2)
    assert data.classes == ("<unk>", "<eos>", "a", ".", "dog")
    assert data.train.inputs.tolist()[0] == [2, 4, 0, 3]
    assert data.test.targets.tolist() == [[0, 3, 1, -100]]


def test_languages_are_in_turn_and_their_words_in_one_vocabulary():
    data = languages(TEXTS, least_count=1, length=5)
    assert data.train.targets.tolist() == [0, 1, 0, 1]
    assert data.classes == ("English", "German")
    # Three special tokens, then the full stop, a, ein, the comma, dog.
    assert data.train.tokens[0, [0, 1, 2, 4]].tolist() == [1, 4, 7, 3]
    half = Selection(train_fraction=0.5).apply(data)
    assert half.train.targets.bincount().tolist() == [1, 1]


def test_all_tasks_of_multi30k_are_settings_of_one_data_set(tmp_path):
    write_multi30k(tmp_path)
    model = load("multi30k:task=language_model,steps=6", tmp_path)
    assert model.train.contiguous
    assert model.classes[:2] == ("<unk>", "<eos>")
    assert model.notes[0] == "60 training pairs, where the official set has 29,000"
    both = load("multi30k:task=language,length=9", tmp_path)
    assert (len(both.train), len(both.test), len(both.validation)) == (120, 30, 24)
    assert both.classes == ("English", "German")


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_english_side_has_all_its_words_and_those_of_two_occurrences(data_dir):
    data = load("multi30k:task=language_model", data_dir)
    raw = gzip.decompress((data_dir / "multi30k" / "train.en.gz").read_bytes()).decode()
    words = re.findall(r"\w+|[^\w\s]", raw.lower())
    tokens = len(words) + raw.count("\n")
    assert int((data.train.targets != -100).sum()) == tokens - 1
    often = [word for word, count in Counter(words).items() if count >= 2]
    assert set(data.classes) == {"<unk>", "<eos>", *often}
    assert data.notes == ()
