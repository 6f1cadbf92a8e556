"""Readers of published files: what they read, and the sentence when they cannot."""

import gzip
import os
import pickle
import re
import struct

import numpy as np
import pytest
import torch

from steppe.errors import DataError, UnknownNameError
from steppe_lab.datasets import DATASETS, Dataset, TensorSamples, load

TRAIN_LABELS = "train-labels-idx1-ubyte"
TRAIN_IMAGES = "train-images-idx3-ubyte"


def idx(values):
    values = np.asarray(values, np.uint8)
    header = struct.pack(f">I{values.ndim}I", 0x800 + values.ndim, *values.shape)
    return header + values.tobytes()


def write_idx(folder, *, compress=False, train=6, test=4):
    """Four small files in the layout of MNIST; pixel [0, 0, 0] of each part is 255."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:1, 0, 0] = 255
        for name, values in (
            (f"{part}-images-idx3-ubyte", images),
            (f"{part}-labels-idx1-ubyte", np.arange(count) % 10),
        ):
            raw = idx(values)
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
            else:
                (folder / name).write_bytes(raw)
    return folder


def batch(count, *, first=0):
    pixels = np.full((count, 3072), first, np.uint8)
    return {"data": pixels, "labels": [i % 10 for i in range(count)]}


def write_cifar(folder, *, batches=(1,), protocol=2):
    folder.mkdir(parents=True, exist_ok=True)
    for i in batches:
        held = pickle.dumps(batch(5, first=i), protocol)
        (folder / f"data_batch_{i}").write_bytes(held)
    (folder / "test_batch").write_bytes(pickle.dumps(batch(3), protocol))
    return folder


def refusal(name, folder):
    with pytest.raises(DataError) as caught:
        load(name, folder)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


# ---- every data set -----------------------------------------------------------------


def test_the_registry_has_the_data_sets():
    images = ["cifar10", "cifar100", "digits", "fashion_mnist", "imagenet", "mnist"]
    others = ["heartbeat", "tiny_imagenet", "tudataset"]
    texts = ["imdb", "multi30k", "ptb", "wmt14"]
    assert DATASETS.names() == sorted([*images, *others, *texts])


@pytest.mark.parametrize("entry", list(DATASETS), ids=lambda entry: entry.name)
def test_facts_say_source_and_summary_and_the_folder_is_no_setting(entry):
    assert entry.spec.source
    assert entry.spec.summary
    assert "data_dir" not in entry.settings()
    assert bool(entry.spec.folders) == entry.spec.needs_files


@pytest.mark.parametrize(
    "name", [entry.name for entry in DATASETS if entry.spec.needs_files]
)
def test_a_set_of_files_without_a_folder_says_how_to_name_one(name):
    text = refusal(name, None)
    assert "--data-dir" in text
    assert "http" in text


@pytest.mark.parametrize(
    "name", [entry.name for entry in DATASETS if entry.spec.needs_files]
)
def test_a_folder_that_is_a_file_or_missing_is_refused(name, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert f"must be an existing folder, got {path}" in refusal(name, path)
    assert "must be an existing folder" in refusal(name, tmp_path / "nowhere")


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UnknownNameError, match="did you mean 'mnist'"):
        load("mnst")


def test_a_hyphen_in_a_name_is_read_as_an_underscore(tmp_path):
    write_idx(tmp_path / "fashion-mnist")
    assert load("fashion-mnist", tmp_path).name == "fashion_mnist"


def moments(data):
    """Mean and standard deviation that the training pool is standardised with."""
    standardisation = data.train.standardisation
    return standardisation.mean, standardisation.std


def made_up(**change):
    parts = {
        "train_inputs": torch.zeros(3, 1, 2, 2),
        "train_targets": torch.arange(3) % 2,
        "test_inputs": torch.zeros(1, 1, 2, 2),
        "test_targets": torch.zeros(1, dtype=torch.int64),
        **change,
    }
    return Dataset(
        name="mine",
        classes=("a", "b"),
        train=TensorSamples(parts["train_inputs"], parts["train_targets"]),
        test=TensorSamples(parts["test_inputs"], parts["test_targets"]),
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"test_inputs": torch.zeros(1, 1, 3, 3)}, "one shape, got (1, 2, 2) and (1,"),
        ({"train_targets": torch.arange(3)}, "must be 0 to 1, got 2 at position 2"),
        ({"train_targets": torch.arange(2)}, "training labels must be as many as"),
        ({"test_targets": torch.zeros(1)}, "test labels must be int64, got torch.f"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        made_up(**change)
    assert made_up().in_shape == (1, 2, 2)


# ---- digits -------------------------------------------------------------------------


def test_digits_need_no_files_and_have_1297_and_500_images():
    data = load("digits")
    assert data.train.inputs.shape == (1297, 1, 8, 8)
    assert data.test.inputs.shape == (500, 1, 8, 8)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.dtype == torch.int64
    assert DATASETS["digits"].spec.train_samples == 1000


def test_the_digits_pool_is_standardised_by_its_own_mean_and_spread():
    data = load("digits")
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert data.train.inputs.std().item() == pytest.approx(1, abs=1e-6)
    (mean,), (std,) = moments(data)
    grey = data.test.inputs * std + mean
    assert torch.allclose(grey * 16, (grey * 16).round(), atol=1e-4)


def test_the_digits_split_stays_the_same_for_good():
    data = load("digits")
    assert data.train.targets.bincount().tolist() == [
        *(124, 132, 116, 127, 130, 131, 137, 124, 132, 144),
    ]
    assert data.train.targets[:8].tolist() == [3, 9, 7, 8, 4, 6, 0, 8]


# ---- idx files ----------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        (entry.name, folder)
        for entry in DATASETS
        if entry.name.endswith("mnist")
        for folder in entry.spec.folders
    ],
)
def test_idx_files_are_found_in_each_layout(name, folder, compress, tmp_path):
    write_idx(tmp_path / folder, compress=compress)
    data = load(name, tmp_path)
    assert data.train.inputs.shape == (6, 1, 28, 28)
    assert data.test.targets.tolist() == [0, 1, 2, 3]
    assert len(data.classes) == 10


def test_pixels_are_scaled_to_one_then_standardised(tmp_path):
    data = load("mnist", write_idx(tmp_path))
    image = data.train.inputs[0, 0]
    assert image[0, 0].item() == pytest.approx((1 - 0.1307) / 0.3081, rel=1e-6)
    assert image[1, 1].item() == pytest.approx(-0.1307 / 0.3081, rel=1e-6)
    assert moments(data) == ((0.1307,), (0.3081,))


def test_a_subset_of_the_official_files_leaves_a_note(tmp_path):
    assert load("mnist", write_idx(tmp_path)).notes == (
        "6 training images, where the official set has 60,000",
        "4 test images, where the official set has 10,000",
    )


def test_files_of_two_folders_are_never_mixed(tmp_path):
    write_idx(tmp_path, train=7)
    write_idx(tmp_path / "mnist", train=6)
    (tmp_path / "mnist" / TRAIN_LABELS).unlink()
    assert len(load("mnist", tmp_path).train.targets) == 7


def test_missing_files_are_named_with_places_source_and_target(tmp_path):
    text = refusal("mnist", tmp_path)
    assert f"needs the file {TRAIN_IMAGES} or {TRAIN_IMAGES}.gz" in text
    assert f"{tmp_path}/mnist, {tmp_path}/MNIST/raw, {tmp_path}" in text
    assert "https://" in text
    assert text.endswith(f"into {tmp_path}/mnist.")


def test_one_missing_file_is_named_with_the_folder_of_the_others(tmp_path):
    folder = write_idx(tmp_path / "MNIST" / "raw")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    text = refusal("mnist", tmp_path)
    assert "t10k-labels-idx1-ubyte" in text
    assert text.endswith(f"put it into {folder}.")


def damaged(tmp_path, name, raw, *, compress=False):
    folder = write_idx(tmp_path, compress=compress)
    (folder / (f"{name}.gz" if compress else name)).write_bytes(raw)
    return refusal("mnist", tmp_path)


def test_a_truncated_gz_is_damaged(tmp_path):
    raw = gzip.compress(idx(np.zeros((6, 28, 28))))
    text = damaged(tmp_path, TRAIN_IMAGES, raw[:-12], compress=True)
    assert "damaged or truncated gzip" in text
    assert "download it from" in text


def test_a_flipped_byte_in_a_gz_is_damaged(tmp_path):
    raw = bytearray(gzip.compress(idx(np.arange(6))))
    raw[-6] ^= 0xFF  # within the checksum
    text = damaged(tmp_path, TRAIN_LABELS, bytes(raw), compress=True)
    assert "damaged or truncated gzip" in text


@pytest.mark.parametrize("change", [-1, 1])
def test_a_byte_too_few_or_too_many_is_refused(change, tmp_path):
    raw = idx(np.arange(6))
    raw = raw[:change] if change < 0 else raw + b"\0"
    text = damaged(tmp_path, TRAIN_LABELS, raw)
    assert f"promises 6 values, got {6 + change}" in text


def test_a_file_that_ends_in_its_header_is_refused(tmp_path):
    raw = idx(np.zeros((6, 28, 28)))[:9]
    assert "ends within its header" in damaged(tmp_path, TRAIN_IMAGES, raw)


@pytest.mark.parametrize("raw", [b"", b"<html>not found</html>"], ids=["empty", "html"])
def test_a_wrong_magic_number_is_refused(raw, tmp_path):
    text = damaged(tmp_path, TRAIN_IMAGES, raw)
    assert "must hold images (magic number 0x00000803), got no idx file" in text


def test_images_where_labels_are_due_are_refused(tmp_path):
    text = damaged(tmp_path, TRAIN_LABELS, idx(np.zeros((6, 28, 28))))
    assert "must hold labels (magic number 0x00000801), got images" in text


def test_labels_that_are_not_as_many_as_images_are_refused(tmp_path):
    text = damaged(tmp_path, TRAIN_LABELS, idx(np.arange(5)))
    assert "got 5 for 6 inputs" in text


def test_a_label_out_of_range_is_refused(tmp_path):
    text = damaged(tmp_path, TRAIN_LABELS, idx([0, 1, 2, 10, 4, 5]))
    assert "must be 0 to 9, got 10 at position 3" in text


def test_images_of_another_size_are_refused(tmp_path):
    text = damaged(tmp_path, TRAIN_IMAGES, idx(np.zeros((6, 8, 8))))
    assert "28 x 28 pixels, got 8 x 8" in text


def test_a_set_without_images_is_refused(tmp_path):
    assert "at least one, got none" in refusal("mnist", write_idx(tmp_path, train=0))


@pytest.mark.parametrize(
    ("asked", "first", "found"),
    [
        ("fashion_mnist", [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5], "MNIST"),
        ("mnist", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9], "Fashion-MNIST"),
    ],
)
def test_one_data_set_is_not_taken_for_another(asked, first, found, tmp_path):
    write_idx(tmp_path, train=12)
    (tmp_path / TRAIN_LABELS).write_bytes(idx(first))
    assert f"{tmp_path} holds {found}, not" in refusal(asked, tmp_path)


# ---- CIFAR-10 pickles ---------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("folder", DATASETS["cifar10"].spec.folders)
def test_cifar_pickles_are_found_in_each_layout(folder, protocol, tmp_path):
    write_cifar(tmp_path / folder, protocol=protocol)
    data = load("cifar10", tmp_path)
    assert data.train.inputs.shape == (5, 3, 32, 32)
    assert data.test.targets.tolist() == [0, 1, 2]


def test_cifar_files_are_read_in_order_and_those_lacking_are_noted(tmp_path):
    write_cifar(tmp_path, batches=(5, 2))
    data = load("cifar10", tmp_path)
    first = [(2 / 255 - 0.4914) / 0.2470, (5 / 255 - 0.4914) / 0.2470]
    assert data.train.inputs[::5, 0, 0, 0].tolist() == pytest.approx(first, rel=1e-5)
    assert data.notes[0] == "2 of 5 official training files, 10 images"


def test_planes_of_a_row_are_red_then_green_then_blue(tmp_path):
    write_cifar(tmp_path)
    held = batch(1)
    held["data"] = (np.arange(3072) // 1024).astype(np.uint8)[None] * 50
    (tmp_path / "test_batch").write_bytes(pickle.dumps(held))
    image = load("cifar10", tmp_path).test.inputs[0]
    mean, std = (
        torch.tensor([0.4914, 0.4822, 0.4465]),
        torch.tensor([0.2470, 0.2435, 0.2616]),
    )
    expected = (torch.tensor([0.0, 50.0, 100.0]) / 255 - mean) / std
    torch.testing.assert_close(image[:, 3, 7], expected)


def as_python_2_wrote_it(pixels, labels):
    """The opcodes of the official files: byte strings, flags of dtype as 0 and 1."""
    rows, columns = pixels.shape
    dtype = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    raw = b"T" + struct.pack("<i", pixels.size) + pixels.tobytes()
    state = b"(I1\n(I%d\nI%d\nt%sI00\n%st" % (rows, columns, dtype, raw)
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    numbers = b"".join(b"I%d\n" % label for label in labels)
    return b"\x80\x02}(S'labels'\n](%seS'data'\n%s%sbu." % (numbers, empty, state)


def test_a_pickle_as_python_2_wrote_it_is_read(tmp_path):
    write_cifar(tmp_path)
    pixels = (np.arange(2 * 3072) % 256).astype(np.uint8).reshape(2, 3072)
    (tmp_path / "test_batch").write_bytes(as_python_2_wrote_it(pixels, [8, 3]))
    data = load("cifar10", tmp_path)
    assert data.test.targets.tolist() == [8, 3]
    red = data.test.inputs[1, 0].flatten() * 0.2470 + 0.4914
    assert (red * 255).round().to(torch.uint8).tolist() == pixels[1, :1024].tolist()


def test_five_files_leave_no_note_on_training(tmp_path):
    write_cifar(tmp_path, batches=(1, 2, 3, 4, 5))
    assert load("cifar10", tmp_path).notes == (
        "3 test images, where the official set has 10,000",
    )


class Foreign:
    """A pickle that runs a command when it is read without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_foreign_class_is_named_and_nothing_of_it_runs(tmp_path):
    trap = tmp_path / "trap"
    write_cifar(tmp_path)
    held = pickle.dumps({**batch(5), "more": Foreign(trap)}, 2)
    (tmp_path / "data_batch_1").write_bytes(held)
    text = refusal("cifar10", tmp_path)
    assert f"{os.mkdir.__module__}.mkdir" in text
    assert "not executed" in text
    assert not trap.exists()
    pickle.loads(held)
    assert trap.exists()  # the trap is a real one


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c__builtin__\nexec\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.",
        b"cnumpy\ndtype\n(S'O'\ntR.",
    ],
)
def test_names_off_the_allow_list_are_refused(program, tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(program)
    assert "is refused" in refusal("cifar10", tmp_path)


def replaced(tmp_path, held):
    write_cifar(tmp_path)
    raw = held if isinstance(held, bytes) else pickle.dumps(held, 2)
    (tmp_path / "data_batch_1").write_bytes(raw)
    return refusal("cifar10", tmp_path)


def test_a_truncated_pickle_is_damaged(tmp_path):
    text = replaced(tmp_path, pickle.dumps(batch(5), 2)[:-900])
    assert "damaged or truncated pickle" in text


@pytest.mark.parametrize("key", ["data", "labels"])
def test_a_pickle_without_an_entry_names_it(key, tmp_path):
    held = batch(5)
    del held[key]
    assert f"must hold the entry '{key}'" in replaced(tmp_path, held)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": np.zeros((5, 3071), np.uint8)}, "got uint8 of shape (5, 3071)"),
        ({"data": np.zeros((5, 3072))}, "got float64 of shape (5, 3072)"),
        ({"data": [1, 2]}, "must be an array, got list"),
        ({"labels": [0, 1]}, "got 2 for 5 inputs"),
        ({"labels": [0, 1, 2, 3, 10]}, "must be 0 to 9, got 10 at position 4"),
        ({"labels": [0, 1, 2, 3, 10**30]}, "must be a list of whole numbers"),
        ({"labels": [0, 1, 2, 3, 4.5]}, "must be a list of whole numbers"),
    ],
)
def test_a_pickle_of_wrong_shapes_is_refused(change, expected, tmp_path):
    assert expected in replaced(tmp_path, {**batch(5), **change})


def test_a_pickle_of_another_thing_is_refused(tmp_path):
    assert "must hold a dictionary, got list" in replaced(tmp_path, [1, 2])


def test_keys_in_bytes_are_read_too(tmp_path):
    write_cifar(tmp_path)
    held = {key.encode(): value for key, value in batch(5).items()}
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(held, 2))
    assert len(load("cifar10", tmp_path).train.targets) == 5


def test_cifar_without_training_files_or_without_test_file_names_one(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py", batches=())
    text = refusal("cifar10", tmp_path)
    assert "needs the file data_batch_1," in text
    assert text.endswith(f"unpack it into {tmp_path}.")
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    text = refusal("cifar10", tmp_path)
    assert "needs the file test_batch," in text
    assert text.endswith(f"unpack it into {tmp_path}/cifar10.")


# ---- the published files ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.real_data
def test_mnist_is_the_published_one(data_dir):
    data = load("mnist", data_dir)
    assert data.train.inputs.shape == (60_000, 1, 28, 28)
    assert data.test.inputs.shape == (10_000, 1, 28, 28)
    assert data.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    pixels = data.train.inputs.mul_(0.3081).add_(0.1307)
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert data.notes == ()


@pytest.mark.real_data
def test_the_folder_of_mnist_is_not_taken_for_fashion_mnist(data_dir):
    assert "holds MNIST" in refusal("fashion_mnist", data_dir / "mnist")


@pytest.mark.real_data
def test_fashion_mnist_has_the_images_its_folder_holds(data_dir):
    data = load("fashion_mnist", data_dir)
    assert data.train.targets[:5].tolist() == [9, 0, 0, 3, 0]
    for part, targets, official in (
        ("training", data.train.targets, 60_000),
        ("test", data.test.targets, 10_000),
    ):
        complete = len(targets) == official
        note = (
            f"{len(targets):,} {part} images, where the official set has {official:,}"
        )
        assert (note in data.notes) is not complete
    assert data.train.targets[:8000].bincount().tolist() == [
        *(747, 860, 809, 807, 763, 795, 807, 818, 792, 802),
    ]
    assert data.test.targets[:4000].bincount().tolist() == [
        *(406, 395, 413, 396, 414, 384, 388, 414, 416, 374),
    ]


@pytest.mark.real_data
def test_cifar10_has_the_classes_of_its_first_files(data_dir):
    data = load("cifar10", data_dir)
    assert data.train.targets[:10_000].bincount().tolist() == [
        *(1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981),
    ]
    assert data.test.targets[:1000].bincount().tolist() == [
        *(103, 89, 100, 103, 90, 86, 112, 102, 106, 109),
    ]
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=0.02)
    assert data.train.inputs.std().item() == pytest.approx(1, abs=0.02)


def test_settings_of_data_of_the_user_reach_it(tmp_path, monkeypatch):
    code = """
from dataclasses import replace
from steppe_lab.datasets import TensorSamples, load as read

def load(*, data_dir, scale: float = 1.0):
    digits = read("digits")
    train = TensorSamples(scale * digits.train.inputs, digits.train.targets)
    return replace(digits, train=train)
"""
    (tmp_path / "scaled.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    plain, scaled = load("digits"), load(DATASETS.parse("scaled:load:scale=2"))
    assert torch.equal(scaled.train.inputs, 2 * plain.train.inputs)
