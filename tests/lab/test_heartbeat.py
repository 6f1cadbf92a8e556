"""Heartbeats: the files, the subsets, and files that are none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from steppe.errors import DataError, SettingError
from steppe_lab.cli import main
from steppe_lab.datasets import Selection, load
from steppe_lab.datasets.heartbeat import PUBLISHED_NORMAL

LINE = ["0.5"] * 187


def lines(labels):
    """A line for each label, whose first sample is its place in the file."""
    return [
        ",".join([f"{place / 10_000:.18e}", *LINE[1:], f"{label:.18e}"])
        for place, label in enumerate(labels)
    ]


def write(folder, train, test=(0, 1, 2, 3, 4)):
    folder.mkdir(exist_ok=True, parents=True)
    for part, labels in (("train", train), ("test", test)):
        text = "\n".join(lines(labels)) + "\n"
        (folder / f"mitbih_{part}.csv").write_text(text)
    return folder


def places(samples):
    """Places in the file of the beats."""
    return (samples.stored[:, 0] * 10_000).round().to(torch.int64)


@pytest.mark.parametrize("folder", ["heartbeat", "mitbih", "."])
def test_beats_and_classes_are_those_of_the_file(folder, tmp_path):
    write(tmp_path / folder, [0, 4, 2, 3, 1, 0])
    data = load("heartbeat", tmp_path)
    assert data.in_shape == (187,)
    assert data.train.targets.tolist() == [0, 4, 2, 3, 1, 0]
    assert places(data.train).tolist() == [0, 1, 2, 3, 4, 5]
    assert data.train.inputs[3, 186] == 0.5
    assert data.notes[0] == "6 training heartbeats, where the official set has 87,554"
    assert data.notes[1] == "33% of the training heartbeats are normal, not 83%"


LABELS = [0] * 40 + [1] * 10 + [2] * 20 + [3] * 6 + [4] * 14


def test_the_balanced_share_of_the_course_project_is_one_of_all_data_sets(tmp_path):
    write(tmp_path, LABELS, LABELS)
    balanced = Selection(subset="balanced", train_fraction=0.5, test_fraction=1.0)
    split = balanced.apply(load("heartbeat", tmp_path))
    assert split.train.targets.bincount().tolist() == [3, 3, 3, 3, 3]
    assert split.test.targets.bincount().tolist() == [6, 6, 6, 6, 6]


def test_the_published_subset_is_that_of_the_project_on_the_official_files(tmp_path):
    # It drops the first line, then all rows before 71,829, and before 17,956 of test.
    assert PUBLISHED_NORMAL == {
        "train": 72_471 - 1 - 71_829,
        "test": 18_118 - 1 - 17_956,
    }
    labels = [0] * 700 + [1] * 3 + [4] * 2
    write(tmp_path, labels, labels)
    data = load("heartbeat:subset=published", tmp_path)
    assert places(data.train).tolist() == list(range(59, 705))
    assert places(data.test).tolist() == list(range(539, 705))
    assert "646 of 705 training heartbeats are used" in data.notes


def test_beats_are_cut_at_the_length_that_is_asked(tmp_path):
    write(tmp_path, [0, 1])
    data = load("heartbeat:max_len=50", tmp_path)
    assert (data.train.inputs.shape, data.test.inputs.shape) == ((2, 50), (5, 50))


@pytest.mark.parametrize("setting", ["max_len=0", "max_len=188", "subset=balanced"])
def test_settings_out_of_range_are_refused(setting, tmp_path):
    with pytest.raises(SettingError, match=setting.partition("=")[0]):
        load(f"heartbeat:{setting}", tmp_path)


def changed(place, text):
    """The second line of five with another text at some place."""
    rows = [line.split(",") for line in lines([0, 1, 2, 3, 4])]
    rows[1][place] = text
    return "\n".join(",".join(row) for row in rows)


BAD = {
    "a formula": (changed(7, "=HYPERLINK(A1)"), "could not convert string '=HYPER"),
    "a command": (changed(0, "=cmd|' /C calc'!A0"), "could not convert string"),
    "a huge number": (changed(7, "1e999"), "must be 0 to 1, got inf in line 2"),
    "a large number": (changed(7, "7e7"), "got 7e+07 in line 2, column 8"),
    "no number": (changed(7, "nan"), "must be 0 to 1, got nan in line 2, column 8"),
    "a negative one": (changed(7, "-0.1"), "got -0.1 in line 2, column 8"),
    "an empty cell": (changed(7, ""), "could not convert string ''"),
    "half a class": (changed(187, "0.5"), "must be whole numbers"),
    "a class too many": (changed(187, "5.0"), "must be 0 to 4, got 5 at position 1"),
    "a class nan": (changed(187, "nan"), "must be whole numbers"),
    "a cut line": (changed(187, "1\n0.5,0.5"), "number of columns changed"),
    "another table": ("1,2,3\n4,5,6", "in each line, got 3 numbers"),
    "a line of names": ("a,b\n1,2", "could not convert string 'a'"),
    "a page": ("<html>not found</html>", "could not convert string"),
    "bytes": ("\x00\x01\x02", "must hold lines of numbers"),
    "nothing": ("", "must be at least one, got none"),
    "only line ends": ("\n\n", "must"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", BAD)
def test_a_file_of_other_lines_is_refused_in_one_sentence(case, tmp_path):
    content, expected = BAD[case]
    write(tmp_path, [0])
    (tmp_path / "mitbih_train.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        load("heartbeat", tmp_path)
    text = str(caught.value)
    assert expected in text
    assert "kaggle" in text or "at least one" in text or "0 to 4" in text
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 500


def test_a_missing_file_is_named_with_its_publisher(tmp_path):
    write(tmp_path, [0])
    (tmp_path / "mitbih_test.csv").unlink()
    with pytest.raises(DataError, match=r"needs the file mitbih_test.csv, .*kaggle"):
        load("heartbeat", tmp_path)


@pytest.mark.real_data
def test_real_heartbeats_are_those_that_numpy_reads(data_dir):
    published = np.loadtxt(data_dir / "heartbeat" / "mitbih_test.csv", delimiter=",")
    test = load("heartbeat", data_dir).test
    np.testing.assert_array_equal(test.inputs, published[:, :-1].astype(np.float32))
    assert test.targets.tolist() == published[:, -1].tolist()


@pytest.mark.slow
@pytest.mark.real_data
def test_a_small_transformer_learns_real_heartbeats(data_dir, tmp_path, capsys):
    words = ["train", "--data", "heartbeat:max_len=60", "--json"]
    words += ["--data-dir", str(data_dir)]
    model = "ecg_transformer:d_model=8,ffn_hidden=8"
    words += ["--model", model, "--base", "adam:lr=0.002", "--optimizer", "sgd"]
    assert main([*words, "--epochs", "12", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["last"]["train_error"] < 0.7  # 0.8 by chance
