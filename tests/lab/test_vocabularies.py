"""Vocabularies of parallel text: learnt by `steppe prepare`, read by data sets."""

from __future__ import annotations

import io
import json
import re

import pytest
import sentencepiece

from parallel_text import pairs, prepared_multi30k, write_multi30k, write_pairs
from steppe.errors import DataError, SettingError
from steppe_lab.cli import main
from steppe_lab.datasets import Selection, load
from steppe_lab.datasets.pairs import BOS, EOS, PAD, UNK
from steppe_lab.datasets.vocabulary import Vocabulary


@pytest.fixture
def folder(tmp_path):
    return prepared_multi30k(tmp_path)


def refusal(data, folder):
    with pytest.raises((DataError, SettingError)) as caught:
        load(data, folder)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_pieces_are_those_of_sentencepiece_and_begin_with_four_of_ours(folder):
    path = folder / "multi30k" / "bpe.60.model"
    other = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ids = (other.unk_id(), other.pad_id(), other.bos_id(), other.eos_id())
    assert ids == (UNK, PAD, BOS, EOS) == (0, 1, 2, 3)
    data = load("multi30k", folder)
    assert data.classes == tuple(other.id_to_piece(n) for n in range(60))
    assert data.train.vocabulary == data.classes
    sentence = data.test.references[3]
    _, targets = data.test.batch(slice(3, 4))
    tokens = targets[targets != EOS].tolist()
    assert tokens == other.encode(sentence)
    joined = "".join(data.classes[token] for token in tokens)
    assert joined.replace("\u2581", " ").strip() == sentence


def test_the_same_text_gives_the_same_bytes(folder, tmp_path_factory):
    other = prepared_multi30k(tmp_path_factory.mktemp("other"))
    for ending in ("model", "vocab", "json"):
        name = f"multi30k/bpe.60.{ending}"
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_text_of_the_other_parts_is_not_learnt_from(folder, tmp_path_factory):
    strange = {"de": ["Ωmega ξ"] * 12, "en": ["Ωmega ξ"] * 12}
    other = tmp_path_factory.mktemp("other")
    write_multi30k(other, val=strange, test_2016_flickr=strange)
    assert (
        main(["prepare", "multi30k", "--vocabulary", "60", "--data-dir", str(other)])
        == 0
    )
    name = "multi30k/bpe.60.model"
    assert (folder / name).read_bytes() == (other / name).read_bytes()
    _, targets = load("multi30k", other).test.batch(slice(0, 1))
    assert UNK in targets.tolist()[0]


def test_the_command_says_what_it_did_and_does_it_once(folder, capsys):
    words = ["prepare", "multi30k", "--vocabulary", "60", "--data-dir", str(folder)]
    capsys.readouterr()
    stood = (folder / "multi30k" / "bpe.60.model").stat().st_mtime_ns
    assert main(words) == 0
    assert "the vocabulary of 60 pieces was there" in capsys.readouterr().out
    assert (folder / "multi30k" / "bpe.60.model").stat().st_mtime_ns == stood
    assert main([*words[:3], "70", *words[4:], "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["pieces"], record["learnt"]) == (70, True)


def test_a_damaged_vocabulary_is_refused_and_learnt_again(folder):
    path = folder / "multi30k" / "bpe.60.model"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    text = refusal("multi30k", folder)
    assert f"{path} is not what was written; run `steppe prepare multi30k" in text
    assert "--vocabulary 60" in text
    prepared_multi30k(folder)
    assert path.read_bytes() == whole


def test_a_vocabulary_of_other_sentences_is_refused(folder):
    write_pairs(folder / "multi30k", "train", pairs(60, 7))
    assert "was learnt from other sentences" in refusal("multi30k", folder)
    prepared_multi30k(folder)
    load("multi30k", folder)


def test_other_sizes_are_other_data(folder):
    first = Selection().apply(load("multi30k", folder)).fingerprint
    prepared_multi30k(folder, 70)
    text = refusal("multi30k", folder)
    assert "holds vocabularies of 60, 70; say which, as in --data multi30k:vo" in text
    again = Selection().apply(load("multi30k:vocabulary=60", folder)).fingerprint
    other = Selection().apply(load("multi30k:vocabulary=70", folder)).fingerprint
    assert again == first != other


def test_a_missing_vocabulary_is_one_sentence_with_the_command(tmp_path):
    write_multi30k(tmp_path)
    text = refusal("multi30k", tmp_path)
    assert "run `steppe prepare multi30k --data-dir DIR`" in text
    folder = tmp_path / "wmt14"
    for stem in ("train", "newstest2013", "newstest2014"):
        write_pairs(folder, stem, pairs(60, 7))
    text = refusal("wmt14:vocabulary=60", tmp_path)
    assert "needs its vocabulary of 60" in text
    assert "run `steppe prepare wmt14 --vocabulary 60 --data-dir DIR`" in text


def test_a_small_text_learns_the_vocabulary_that_would_be_prepared(folder, tmp_path):
    prepared = Selection().apply(load("multi30k:vocabulary=60", folder)).fingerprint
    other = tmp_path / "other"
    write_multi30k(other)
    learnt = Selection().apply(load("multi30k:vocabulary=60", other)).fingerprint
    assert learnt == prepared
    assert not list(other.glob("multi30k/bpe*"))


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        (5000, r"vocabulary must be at most \d+ for this text, which has no more pi"),
        (20, r"vocabulary must be more than \d+ for this text, whose characters are"),
        (7, r"vocabulary must be .* got 7"),
    ],
)
def test_sizes_that_the_text_does_not_allow_are_refused(size, rule, tmp_path, capsys):
    write_multi30k(tmp_path)
    words = ["prepare", "multi30k", "--vocabulary", str(size)]
    assert main([*words, "--data-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert re.search(rule, " ".join(said.split()))
    assert not list(tmp_path.glob("multi30k/bpe*"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mnist"], "choose multi30k or wmt14"),
        (["multi30k"], "needs the file train.de"),
        (
            ["multi30k", "--vocabulary", "60", "--data-dir", "nowhere"],
            "existing folder",
        ),
    ],
)
def test_commands_that_cannot_prepare_anything(words, expected, tmp_path, capsys):
    given = [] if "--data-dir" in words else ["--data-dir", str(tmp_path)]
    assert main(["prepare", *words, *given]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())


def test_another_data_folder_gets_links_to_the_text(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    for path in folder.glob("multi30k/bpe.*"):
        path.unlink()
    sized = ["--vocabulary", "60", "--data-dir", str(folder), "--out", str(out)]
    assert main(["prepare", "multi30k", *sized]) == 0
    assert not list(folder.glob("multi30k/bpe.*"))
    assert len(load("multi30k", out).train) == 60
    assert main(["prepare", "multi30k", *sized]) == 0


def test_a_model_that_is_none_is_refused():
    with pytest.raises(DataError, match="must be a SentencePiece model"):
        Vocabulary(b"none")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(pairs(50, 0)["en"]),
        model_writer=written,
        model_type="bpe",
        vocab_size=40,
        minloglevel=2,
    )
    with pytest.raises(DataError, match="must begin with the pieces for unknown"):
        Vocabulary(written.getvalue())


def test_lines_that_are_no_pairs_are_refused(folder):
    lines = pairs(60, 0)
    write_pairs(folder / "multi30k", "train", {**lines, "en": lines["en"][1:]})
    text = refusal("multi30k", folder)
    assert "train.de and train.en in" in text
    assert "got 60 and 59 lines" in text


@pytest.mark.parametrize("task", ["translation", "language"])
def test_files_of_empty_lines_are_refused(task, folder):
    write_multi30k(folder, train={"de": [""] * 60, "en": ["", " "] * 30})
    assert "must hold a sentence, got empty lines" in refusal(
        f"multi30k:task={task}", folder
    )


def test_long_and_short_pairs_are_not_trained_on_but_judged(tmp_path):
    own = pairs(60, 0)
    own["de"][3], own["en"][3] = "a", "a dog"
    own["en"][5] = " ".join(["street"] * 150)
    write_multi30k(tmp_path, train=own, test_2016_flickr={"de": ["a"], "en": ["a"]})
    sized = ["--vocabulary", "60", "--data-dir", str(tmp_path)]
    assert main(["prepare", "multi30k", *sized]) == 0
    data = load("multi30k", tmp_path)
    assert (len(data.train), len(data.test), len(data.validation)) == (58, 1, 12)
    assert own["de"][3] not in data.train.sources
    assert data.notes[0] == "60 training pairs, where the official set has 29,000"
    assert data.notes[-1].startswith("2 of 60 training pairs are left out")
    longest = max(s.lengths.max() for s in (data.train, data.validation))
    assert data.in_shape[0] <= 100
    assert longest


def test_either_language_is_the_source(folder):
    there, back = (
        load(f"multi30k:direction={way}", folder) for way in ("de-en", "en-de")
    )
    assert there.test.sources == back.test.references
    assert there.test.references == back.test.sources
    assert there.classes == back.classes


def test_tuning_is_on_the_validation_set_of_the_authors(folder):
    data = load("multi30k", folder)
    split = Selection(held_out="validation").apply(data)
    assert split.test is data.validation
    assert len(split.train) == len(data.train)
    assert split.notes[-1] == "judged on 12 validation samples, not on the test set"
    apart = Selection(held_out="validation", validation_seed=0).apply(data)
    assert len(apart.test) == len(data.train) // 5
    assert len(apart.train) == len(data.train) - len(apart.test)


@pytest.mark.parametrize("corpora", [True, False], ids=["published", "split words"])
def test_both_forms_of_wmt14_are_read(corpora, tmp_path):
    folder = tmp_path / "wmt14"
    names = ("europarl-v7.de-en", "commoncrawl.de-en", "news-commentary-v9.de-en")
    for seed, name in enumerate(names if corpora else ("train",)):
        write_pairs(folder, name, pairs(20, seed))
    write_pairs(folder, "newstest2013", pairs(5, 8))
    write_pairs(folder, "newstest2014", pairs(6, 9))
    sized = ["--vocabulary", "60", "--data-dir", str(tmp_path)]
    assert main(["prepare", "wmt14", *sized]) == 0
    data = load("wmt14", tmp_path)
    assert len(data.train) == (60 if corpora else 20)
    assert (len(data.validation), len(data.test)) == (5, 6)
    assert data.train.sources[0] == pairs(20, 0)["de"][0]
    (folder / "newstest2014.en.gz").unlink()
    assert "needs the file newstest2014.en" in refusal("wmt14", tmp_path)


@pytest.mark.slow
@pytest.mark.real_data
def test_the_published_files_are_read(data_dir, tmp_path):
    sized = ["--vocabulary", "1000", "--data-dir", str(data_dir)]
    assert main(["prepare", "multi30k", *sized, "--out", str(tmp_path)]) == 0
    data = load("multi30k", tmp_path)
    assert (len(data.validation), len(data.test)) == (1014, 1000)
    assert len(data.train) > 28_900
    assert (
        data.test.sources[0]
        == "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt."
    )
