"""Tokens of parallel text in files, which `steppe prepare` encodes once.

Each language of each part has one safetensors file beside the vocabulary, with its
tokens and its sentences, which a data set maps into memory. A record holds the digests
of the text, of the vocabulary and of these files, and is written last: what belongs to
another text or is damaged is not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from steppe.errors import DataError
from steppe.files import replace_file
from steppe_lab.datasets.formats.compact import Texts
from steppe_lab.datasets.formats.parallel import PARTS, Files, ParallelText, Part
from steppe_lab.datasets.formats.published import read_limited
from steppe_lab.datasets.pairs import Sentences, narrow_type
from steppe_lab.datasets.vocabulary import Vocabulary

_MOST = 2**20  # bytes of a record


@dataclass(frozen=True, eq=False)
class Encoded:
    """Sentences of one language with their tokens."""

    sentences: Sentences
    texts: Texts


Language = str
EncodedParts = Mapping[Part, Mapping[Language, Encoded]]


def encode(texts: Texts, vocabulary: Vocabulary) -> Encoded:
    """Sentences with their tokens, in memory."""
    tokens = vocabulary.encode(texts)
    return Encoded(Sentences.of(tokens, len(vocabulary.pieces)), texts)


def write_tokens(
    text: ParallelText,
    folder: Path,
    form: Files,
    place: Path,
    name: str,
    vocabulary: Vocabulary,
) -> None:
    """Encode all parts of a parallel text into files, one of them after another.

    Args:
        text: of the data set.
        folder: of its files.
        form: which of them.
        place: folder that gets the tokens.
        name: of the vocabulary, which those of all files begin with.
        vocabulary: that the text is encoded by.

    Raises:
        DataError: text that is missing or damaged.
        OSError: a folder that cannot be written.
    """
    files: dict[str, str] = {}
    sources = _digests(text.paths(folder, form))
    for part in PARTS:
        for language, texts in text.read(folder, form, part).items():
            own = encode(texts, vocabulary)
            content = save(
                {
                    "tokens": own.sentences.tokens,
                    "token_starts": own.sentences.starts,
                    "letters": texts.letters,
                    "letter_starts": texts.starts,
                }
            )
            file = _file(name, part, language)
            files[file] = hashlib.sha256(content).hexdigest()
            # What is lost in a crash is seen by its digest and encoded again.
            replace_file(place / file, content, survives="nothing")
    record = _about(sources, vocabulary.model) | {"files": files}
    replace_file(_record(place, name), (json.dumps(record, indent=2) + "\n").encode())


def stale(
    text: ParallelText,
    folder: Path,
    form: Files,
    place: Path,
    name: str,
    model: bytes,
) -> str | None:
    """Why tokens in files cannot be read, in a half sentence; None where they can.

    All files are compared by their digests, for which no sentence is in memory.

    Args:
        text: of the data set.
        folder: of its files.
        form: which of them.
        place: folder with the tokens.
        name: of the vocabulary.
        model: contents of the vocabulary that the text is to be encoded by.
    """
    path, damaged = _record(place, name), f"its tokens in {place} are damaged"
    if not path.exists():
        return f"its tokens are not in {place}"
    try:
        record = json.loads(read_limited(path, _MOST, ""))
        files = record.pop("files")
        if record != _about(_digests(text.paths(folder, form)), model):
            return f"the tokens in {place} are of another text or vocabulary"
        known = _digests(place / _file(name, p, of) for p, of in _each(text))
    except (DataError, ValueError, RecursionError, KeyError, AttributeError, OSError):
        return damaged
    return None if files == known else damaged


def read_tokens(
    text: ParallelText, place: Path, name: str, vocabulary: Vocabulary
) -> EncodedParts:
    """Tokens in files that are not stale, mapped into memory.

    Args:
        text: of the data set.
        place: folder with the tokens.
        name: of the vocabulary.
        vocabulary: that they are of.

    Raises:
        DataError: tokens that contradict each other.
    """
    parts: dict[Part, dict[Language, Encoded]] = {part: {} for part in PARTS}
    for part, language in _each(text):
        path = place / _file(name, part, language)
        parts[part][language] = _opened(path, len(vocabulary.pieces))
    return parts


def _opened(path: Path, vocabulary: int) -> Encoded:
    """Tokens and sentences of a file, whose pages the system reads on demand."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        encoded = Encoded(
            Sentences(tensors["tokens"], tensors["token_starts"]),
            Texts(tensors["letters"], tensors["letter_starts"]),
        )
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(
            f"{path} is no file of tokens; run `steppe prepare` again."
        ) from error
    own, texts = encoded.sentences, encoded.texts
    whole = (
        own.tokens.dtype == narrow_type(vocabulary)
        and texts.letters.dtype == torch.uint8
        and _in_order(own.starts, len(own.tokens))
        and _in_order(texts.starts, len(texts.letters))
        and len(own) == len(texts)
        and _between(own.tokens, 0, vocabulary - 1)
    )
    if not whole:
        raise DataError(
            f"{path} holds tokens that contradict each other or the vocabulary; run "
            "`steppe prepare` again."
        )
    return encoded


def _in_order(starts: Tensor, end: int) -> bool:
    """Whether starts of sentences ascend from 0 to the end of the last one."""
    if starts.dtype != torch.int64 or starts.dim() != 1 or not len(starts):
        return False
    ends = (int(starts[0]), int(starts[-1]))
    return ends == (0, end) and not (starts.diff() < 0).any()


def _between(tokens: Tensor, least: int, most: int) -> bool:
    """Whether all tokens are in a range."""
    if not len(tokens):
        return True
    low, high = (int(each) for each in tokens.aminmax())
    return least <= low and high <= most


def _about(sources: Mapping[str, str], model: bytes) -> dict[str, Any]:
    """Digests of the text and of the vocabulary, which tokens follow from."""
    return {"text": dict(sources), "vocabulary": hashlib.sha256(model).hexdigest()}


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by name; no more than a piece of one is in memory."""
    digests = {}
    for path in paths:
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _each(text: ParallelText) -> list[tuple[Part, Language]]:
    return [(part, language) for part in PARTS for language in text.languages]


def _file(name: str, part: Part, language: Language) -> str:
    return f"{name}.{part}.{language}.safetensors"


def _record(place: Path, name: str) -> Path:
    return place / f"{name}.tokens.json"
