"""Files that are no checkpoint of steppe: their kinds, and the next step."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAGIC = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file, such as Keras writes",
    b"\x1f\x8b": "a gzip archive, which must be unpacked",
    b"GGUF": "a GGUF file",
}
LIBRARY = (
    "load it into your network in Python, "
    "model.load_state_dict({weights}), and call "
    "steppe.measure(steppe.Objective(model, (inputs, targets)), ['trace'])"
)
TRAIN = (
    "give a model.safetensors that `steppe train` or `steppe compare` wrote, or with "
    "--model and --data weights that torch.save wrote"
)


def complaint(path: Path, reason: str) -> str:
    """One sentence about a file that is not the safetensors file it should be.

    Args:
        path: a file that can be read.
        reason: what the reader of safetensors says.
    """
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head:
        return f"{path} is an empty file; {TRAIN}."
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return f"{path} is {kind}, no checkpoint; {TRAIN}."
    if _is_torch(path, head):
        return _of_torch(path)
    if head.startswith(b"PK"):
        return f"{path} is a zip archive, no checkpoint; {TRAIN}."
    if _is_text(head):
        return f"{path} is not a readable checkpoint but a text; {TRAIN}."
    return (
        f"{path} is not a readable checkpoint ({reason}); it may be cut off, "
        "so copy it again or train again."
    )


def _is_torch(path: Path, head: bytes) -> bool:
    """Whether `torch.save` wrote a file, as an archive or, before 1.6, as pickles."""
    if head.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return b"/data.pkl" in head  # an archive that has lost its end
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    return head.startswith(b"\x80") and b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." in head


def _of_torch(path: Path) -> str:
    weights = f"torch.load('{path}', weights_only=True)"
    try:
        # No tensor is read, and no code of the file runs.
        content = torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError:
        return (
            f"{path} is a torch file of Python objects, such as a whole module, and "
            "reading it would run its code; where you trust it, save its weights alone "
            f"from Python: torch.save(torch.load('{path}', weights_only=False)"
            ".state_dict(), 'weights.pt')."
        )
    except Exception:  # a damaged pickle raises any kind
        return f"{path} is a torch file that is damaged or cut off; copy it again."
    kind, place = _kind(content)
    if kind == "":
        return (
            f"{path} is a torch file of {type(content).__name__}, no checkpoint; "
            f"{TRAIN}."
        )
    return (
        f"{path} is {kind}, without a recipe that says which network and data it "
        "belongs to; name both with --model and --data, or "
        f"{LIBRARY.format(weights=weights + place)}."
    )


def _kind(content: Any) -> tuple[str, str]:
    """Kind of a torch file, and the way to the weights in it; "" for none."""
    if _is_state(content):
        return "a torch state_dict", ""
    if not isinstance(content, Mapping):
        return "", ""
    if "pytorch-lightning_version" in content:
        return "a Lightning checkpoint", "['state_dict']"
    for name, value in content.items():
        if _is_state(value):
            return "a torch file with a state_dict", f"[{name!r}]"
    return "", ""


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"
    return all(letter.isprintable() or letter in "\t\r\n" for letter in text)
