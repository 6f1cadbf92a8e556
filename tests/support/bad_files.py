"""Files that are no checkpoint of steppe, each wrong in a way of its own."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from steppe_lab.datasets.loading import load_split
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model
from steppe_lab.training.recipe import Recipe

JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0043") + bytes(64)


def checkpoint() -> bytes:
    """A checkpoint as `steppe train` writes it, of a network at its initial weights."""
    recipe = Recipe.model_validate(
        {"data": "digits", "model": "small_cnn:width=1", "base": "sgd"}
    )
    split = load_split(recipe)
    classes = len(split.classes)
    model = build_model(recipe, split.in_shape, classes)
    return checkpoints.to_bytes(
        model, recipe, split.in_shape, classes, split.fingerprint
    )


def torch_file(value: object, **how: bool) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def zip_file() -> bytes:
    """An archive with a text in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("notes.txt", "hello")
    return buffer.getvalue()


def with_about(text: str) -> bytes:
    """A safetensors file whose recipe is this text."""
    return save({"weight": torch.ones(2)}, metadata={"steppe": text})


def write_all(folder: Path) -> None:
    """Write every file into a folder."""
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weights = network.state_dict()
    lightning = {
        "state_dict": weights,
        "pytorch-lightning_version": "2.6.6",
        "epoch": 3,
        "global_step": 12,
        "optimizer_states": [],
    }
    training = {"model": weights, "optimizer": {"state": {}}, "epoch": 3}
    good = checkpoint()
    about = json.dumps({"format": 99})
    contents = {
        "picture.jpg": JPEG,
        "empty": b"",
        "notes.txt": b"not a checkpoint\n",
        "archive.zip": zip_file(),
        "weights.pt": torch_file(weights),
        "old.pt": torch_file(weights, _use_new_zipfile_serialization=False),
        "module.pt": torch_file(network),
        "lightning.ckpt": torch_file(lightning),
        "training.pt": torch_file(training),
        "tensor.pt": torch_file(torch.ones(3)),
        "cut.pt": torch_file(weights)[:-200],
        "other.safetensors": save(dict(weights), metadata={"format": "pt"}),
        "cut.safetensors": good[:-100],
        "head.safetensors": good[:20],
        "huge.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "deep.safetensors": with_about("[" * 100_000),
        "newer.safetensors": with_about(about),
        "bare.safetensors": with_about("{}"),
        "digits.safetensors": with_about('{"format": ' + "9" * 5000 + "}"),
        "good.safetensors": good,
        "file": b"neither a folder nor a checkpoint\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "nothing").symlink_to("gone")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    several = folder / "several"
    for name in ("first", "second"):
        (several / name).mkdir(parents=True)
        (several / name / "model.safetensors").write_bytes(good)
