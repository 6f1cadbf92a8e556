"""Files of data sets made to do harm: one sentence, soon, in little memory."""

import gzip
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest

from steppe.errors import DataError
from steppe_lab.datasets import load

PIXELS = 3072
DTYPE = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR"
STATE = b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
BYTES = b"T" + struct.pack("<i", PIXELS) + bytes(PIXELS)


def array(dtype=b"u1", state=STATE, shape=b"(I1\nI3072\nt", data=BYTES):
    """Instructions for an array as the official files have them."""
    return (
        RECONSTRUCT + b"(I1\n" + shape + DTYPE % dtype + state + b"I00\n" + data + b"tb"
    )


def held(data=None, *, before=b"", more=b""):
    """A file of one image with label 0."""
    pixels = array() if data is None else data
    return (
        b"\x80\x02" + before + b"}(S'labels'\n](I0\neS'data'\n" + pixels + more + b"u."
    )


NDARRAY = b"cnumpy\nndarray\n"
FROM_BUFFER = NDARRAY + b"((I1\nI3072\nt%s%s" + BYTES
LONG = b"L1%sL\n" % (b"0" * 30)
PICKLES = {
    "an array of objects over the bytes of the file": held(
        NDARRAY + b"((I384\nt" + DTYPE % b"O" + BYTES + b"tR"
    ),
    "a type by the name of objects at addresses of the file": b"\x80\x04"
    + b"cnumpy\ndtype\ncnumpy\nndarray\n(K\x01t\x8c\x01OC\x08AAAAAAAA\x87R\x85R.",
    "a view beyond the bytes": held(
        FROM_BUFFER % (DTYPE % b"u1", b"") + b"I0\n(I-3072\nI-1\nttR"
    ),
    "an array by NEWOBJ": held(NDARRAY + b"(I9\nt\x81"),
    "an array by OBJ": held(b"(" + NDARRAY + b"I9\no"),
    "an array by INST": held(b"(I9\ninumpy\nndarray\n"),
    "an object type": held(array(b"O")),
    "an object type by its state": held(
        array(state=b"(I3\nS'|'\n(S'u1'\n(I1\nttNNI-1\nI-1\nI0\ntb")
    ),
    "fields in a type": held(array(state=b"(I3\nS'|'\nN(S'a'\nt}I-1\nI-1\nI0\ntb")),
    "a record type": held(array(b"O,u1")),
    "a type of texts": held(array(b"U9")),
    "a type within a type": held(array(b"(9,)u1")),
    "a negative shape": held(array(shape=b"(I-1\nI-3072\nt")),
    "a huge shape": held(array(shape=b"(" + LONG * 2 + b"t")),
    "a shape that is no number": held(array(shape=b"(S'a'\nI3072\nt")),
    "more axes than needed": held(array(shape=b"(" + b"I1\n" * 70 + b"t")),
    "fewer bytes than the shape": held(array(data=b"S'abc'\n")),
    "a list of objects as the bytes": held(array(data=b"](I1\nI2\ne")),
    "a state of nothing": held(RECONSTRUCT + b"Nb"),
    "an array without a state": held(RECONSTRUCT),
    "a state for a list": held(b"](I1\neI1\nb"),
    "calls within calls": held(b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR(I1\ntR"),
    "a call of what was built": held(array() + b"(I1\ntR"),
    "an extension": held(b"\x82\x01"),
    "a long extension": held(b"\x84\x01\x00\x00\x00"),
    "a persistent id": held(b"Pname\n"),
    "a binary persistent id": held(b"S'name'\nQ"),
    "a buffer from outside": held(b"\x97"),
    "a place in memory of four thousand million": held(
        b"N", before=b"Nr\xff\xff\xff\x7f0"
    ),
    "a place in memory that is empty": held(b"h\x07"),
    "texts that promise 2 GB": held(b"T\xff\xff\xff\x7f"),
    "bytes that promise 2**62": held(b"\x8e" + struct.pack("<Q", 2**62)),
    "a changeable array of 2**40 bytes": held(b"\x96" + struct.pack("<Q", 2**40)),
    "a frame of 2**62": held(before=b"\x95" + struct.pack("<Q", 2**62))[:-90],
    "lists within lists": held(b"]" * 50_000 + b"a" * 49_999),
    "tuples within tuples": held(b")" + b"\x85" * 50_000),
    "tuples within tuples as a key": held(more=b")" + b"\x85" * 200_000 + b"N"),
    "a list in itself": held(b"]q\x00h\x00a"),
    "a text copied again and again": held(
        before=b"X"
        + struct.pack("<I", 30_000)
        + b"a" * 30_000
        + b"q\x000"
        + b"c_codecs\nencode\nq\x010"
        + b"h\x01(h\x00S'latin1'\ntR0" * 20_000
    ),
    "instructions without end": held(before=b"N0" * 210_000),
    "a digit too many": held(b"I" + b"9" * 5000 + b"\n"),
    "no end": held()[:-1],
    "no beginning": held()[40:],
    "a mark that is missing": b"\x80\x02I1\nt.",
    "nothing on the stack": b"\x80\x02.",
    "nothing": b"",
    "a long foreign name": b"c" + b"a" * 10**6 + b"\nb\n.",
    "a foreign name in a stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "a name of no text": b"\x80\x04K\x01K\x02\x93.",
}


def one_sentence(folder, name, seconds=10.0, most=2**25):
    """The refusal of a data set, with the time and the memory that it took."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(DataError) as caught:
            load(name, folder)
        spent, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.count("\n") == 0
    assert len(text) < 600
    assert (spent < seconds, peak < most) == (True, True), (spent, peak)
    return text


def test_the_honest_file_that_the_others_are_made_from_is_read(tmp_path):
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(held())
    assert load("cifar10", tmp_path).train.targets.tolist() == [0]


@pytest.mark.slow
@pytest.mark.parametrize("case", PICKLES)
def test_a_hostile_pickle_is_refused(case, tmp_path):
    (tmp_path / "data_batch_1").write_bytes(PICKLES[case])
    (tmp_path / "test_batch").write_bytes(held())
    text = one_sentence(tmp_path, "cifar10")
    assert str(tmp_path / "data_batch_1") in text


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_any_protocol_writes_them(order, protocol, tmp_path):
    pixels = np.arange(2 * PIXELS).reshape(2, PIXELS) % 251
    batch = {"data": np.asarray(pixels, np.uint8, order=order), "labels": [3, 4]}
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol))
    data = load("cifar10", tmp_path)
    red = data.train.inputs[1, 0].flatten() * 0.2470 + 0.4914
    assert (red * 255).round().int().tolist() == pixels[1, :1024].tolist()


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(*shape, values=b""):
    """An idx file of bytes with this header."""
    return struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape) + values


def zeros(megabytes):
    """A gzip stream of zeros, a thousandth of its contents in size."""
    return gzip.compress(bytes(megabytes * 2**20), 9)


IDX = {
    "images without end behind an honest header": (
        IMAGES,
        lambda: gzip.compress(idx(6, 28, 28)) + zeros(64),
    ),
    "a header of 6 GB": (IMAGES, lambda: gzip.compress(idx(8_000_000, 28, 28))),
    "a header of 2**96": (IMAGES, lambda: idx(*[2**32 - 1] * 3)),
    "labels without end": (LABELS, lambda: gzip.compress(idx(6)) + zeros(64)),
    "a header of 2**32 labels": (LABELS, lambda: idx(2**32 - 1)),
    "a gzip stream of another file": (LABELS, lambda: zeros(64)),
    "an empty gzip stream": (LABELS, lambda: gzip.compress(b"")),
    "a header of gzip alone": (LABELS, lambda: b"\x1f\x8b"),
}


@pytest.mark.parametrize("case", IDX)
def test_a_hostile_idx_file_is_refused(case, tmp_path):
    name, made = IDX[case]
    for part, count in (("train", 6), ("t10k", 4)):
        images = idx(count, 28, 28, values=bytes(count * 784))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(images)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(
            idx(count, values=bytes(count))
        )
    (tmp_path / name).write_bytes(made())
    assert str(tmp_path / name) in one_sentence(tmp_path, "mnist", most=2**23)


def test_a_data_folder_that_is_a_loop_or_has_no_possible_name_is_refused(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (tmp_path / "mnist").symlink_to(tmp_path / "mnist")
    for folder in (loop, tmp_path, tmp_path / ("a" * 300)):
        assert str(folder) in one_sentence(folder, "mnist")
