"""Vocabularies of pieces of words that two languages share, by byte pair encoding.

Source: Sennrich, Haddow and Birch, 2016, arXiv:1508.07909, computed by SentencePiece
(Kudo and Richardson, 2018, arXiv:1808.06226). Characters are taken as they are, all of
them are in the vocabulary, and the first four pieces are those of `pairs`: as LPF-SGD
(Bisla, Wang and Choromanska, 2022) had it from YouTokenToMe, which joins other pairs
where several are equally frequent.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from steppe.errors import DataError, SettingError, install
from steppe.files import replace_file
from steppe.registry.bounds import Range, Ranges
from steppe_lab.datasets.formats.parallel import Lines, ParallelText, digest_of
from steppe_lab.datasets.formats.published import read_limited
from steppe_lab.datasets.pairs import BOS, EOS, PAD, UNK

SIZE = 32_000  # as published
BOUNDS: Ranges = {"vocabulary": Range(8, 1_000_000, whole=True)}
_MOST = 2**26  # bytes of a model
_LINES = 10_000  # that are encoded at once


class Vocabulary:
    """Pieces that sentences are encoded into.

    Args:
        model: contents of a SentencePiece model.

    Raises:
        DataError: it is none, or its first pieces are others.
    """

    def __init__(self, model: bytes) -> None:
        self.model = model
        try:
            self._pieces = _sentencepiece().SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError("a vocabulary must be a SentencePiece model.") from error
        own = self._pieces
        ids = (own.unk_id(), own.pad_id(), own.bos_id(), own.eos_id())
        if ids != (UNK, PAD, BOS, EOS):
            raise DataError(
                "a vocabulary must begin with the pieces for unknown, padding, begin "
                f"and end, got them at {ids}."
            )

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """All pieces by number; a space in them is U+2581."""
        return tuple(map(self._pieces.id_to_piece, range(self._pieces.vocab_size())))

    def encode(self, sentences: Iterable[str]) -> Iterator[list[int]]:
        """Numbers of the pieces of each sentence, without begin and end."""
        lines = iter(sentences)
        while some := list(itertools.islice(lines, _LINES)):
            yield from self._pieces.encode(some, out_type=int)

    @classmethod
    def learn(cls, sentences: Iterable[str], size: int) -> Vocabulary:
        """The most frequent pairs of pieces in sentences, joined one after another.

        The same sentences give the same bytes.

        Args:
            sentences: of all languages.
            size: number of pieces, the first four and all characters among them.

        Raises:
            SettingError: the sentences have more characters than that, or not so many
                pieces.
        """
        written = io.BytesIO()
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=written,
                model_type="bpe",
                vocab_size=size,
                character_coverage=1.0,
                normalization_rule_name="identity",
                max_sentence_length=2**20,
                unk_id=UNK,
                pad_id=PAD,
                bos_id=BOS,
                eos_id=EOS,
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _refusal(size, str(error)) from error
        return cls(written.getvalue())


def _refusal(size: int, reason: str) -> SettingError:
    """One sentence for a size that SentencePiece refuses."""
    most = re.search(r"<= (\d+)", reason)
    if most:
        return SettingError(
            f"vocabulary must be at most {int(most[1]):,} for this text, which has no "
            f"more pieces, got {size:,}; lower it."
        )
    least = re.search(r"required_chars\D*(\d+) vs (\d+)", reason)
    if least:
        needed = max(int(each) for each in least.groups())
        return SettingError(
            f"vocabulary must be more than {needed:,} for this text, whose characters "
            f"are all in it, got {size:,}; raise it."
        )
    brief = " ".join(reason.split())
    return SettingError(f"no vocabulary of {size:,} can be learnt ({brief}).")


def _sentencepiece() -> Any:
    """SentencePiece, imported where text becomes tokens."""
    try:
        with warnings.catch_warnings():
            # Its types, which SWIG made, have no module.
            warnings.simplefilter("ignore", DeprecationWarning)
            import sentencepiece
    except ImportError as error:
        raise DataError(f"text needs SentencePiece; {install('text')}.") from error
    return sentencepiece


def read_vocabulary(
    text: ParallelText, folder: Path, size: int, train: Lines
) -> Vocabulary:
    """The vocabulary that was prepared for a text.

    That of a small text is learnt anew where it was not; its bytes are the same.

    Args:
        text: of the data set.
        folder: of its files.
        size: number of pieces.
        train: training sentences, which it must have been learnt from.

    Raises:
        DataError: none is there, or its files are not whole or of another text.
    """
    record, path = _record(folder, size), model_path(folder, size)
    command = command_for(text, size)
    if text.small and record is None and not path.exists():
        return learn_from(text, size, train)
    if record is None or not path.is_file():
        raise DataError(
            f"{text.published.title} needs its vocabulary of {size:,}, which is not in "
            f"{folder}; {command}."
        )
    known = _about(text, size, train)
    model = read_limited(path, _MOST, command)
    if record != known | {"model": _sha256(model)}:
        other = {key for key in known if record.get(key) != known[key]}
        what = "other sentences" if "sentences" in other else "what was written"
        rule = "was learnt from" if "sentences" in other else "is not"
        raise DataError(f"{path} {rule} {what}; {command}.")
    return Vocabulary(model)


def learn_from(text: ParallelText, size: int, train: Lines) -> Vocabulary:
    """The vocabulary of both languages of a text.

    Raises:
        SettingError: a size that the text does not allow.
    """
    both = itertools.chain.from_iterable(train[one] for one in text.languages)
    return Vocabulary.learn(both, size)


def only_size(text: ParallelText, folder: Path) -> int:
    """Size of the one vocabulary in a folder.

    Raises:
        DataError: none is there.
        SettingError: there are several.
    """
    names = (re.fullmatch(r"bpe\.(\d+)\.json", p.name) for p in folder.iterdir())
    sizes = sorted(int(name[1]) for name in names if name)
    if not sizes:
        raise DataError(
            f"{text.published.title} needs a vocabulary, and there is none in "
            f"{folder}; {command_for(text, None)}."
        )
    if len(sizes) > 1:
        listed = ", ".join(f"{size:,}" for size in sizes)
        raise SettingError(
            f"{folder} holds vocabularies of {listed}; say which, as in --data "
            f"{text.name}:vocabulary={sizes[0]}."
        )
    return sizes[0]


def command_for(text: ParallelText, size: int | None) -> str:
    """The half sentence that names the command which prepares a vocabulary."""
    number = "" if size in (None, SIZE) else f" --vocabulary {size}"
    return f"run `steppe prepare {text.name}{number} --data-dir DIR`"


def name_of(size: int) -> str:
    """Beginning of the names of all files of a vocabulary."""
    return f"bpe.{size}"


def model_path(folder: Path, size: int) -> Path:
    """The model of a vocabulary in a folder."""
    return folder / f"{name_of(size)}.model"


def stored_model(folder: Path, size: int) -> bytes | None:
    """Contents of the model in a folder, if there is one that its record names."""
    try:
        model = read_limited(model_path(folder, size), _MOST, "")
    except DataError:
        return None
    record = _record(folder, size) or {}
    return model if record.get("model") == _sha256(model) else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _about(text: ParallelText, size: int, train: Lines) -> dict[str, Any]:
    """The record without the model: the settings and the digest of the sentences."""
    return {"data": text.name, "vocabulary": size, "sentences": digest_of(train)}


def _record(folder: Path, size: int) -> dict[str, Any] | None:
    """The record of a vocabulary; None where it is missing or damaged."""
    try:
        raw = read_limited(folder / f"{name_of(size)}.json", 2**16, "")
        record = json.loads(raw)
    except (DataError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def stored_vocabulary(
    text: ParallelText, place: Path, size: int, train: Lines
) -> Vocabulary | None:
    """A whole vocabulary of the same text that lies in a folder, if any."""
    model = stored_model(place, size)
    if model is None:
        return None
    whole = _about(text, size, train) | {"model": _sha256(model)}
    return Vocabulary(model) if _record(place, size) == whole else None


def write_vocabulary(
    text: ParallelText, place: Path, size: int, train: Lines, vocabulary: Vocabulary
) -> None:
    """Write the model, its pieces to read and the record into a folder.

    Raises:
        OSError: a folder that cannot be written.
    """
    name = name_of(size)
    record = _about(text, size, train) | {"model": _sha256(vocabulary.model)}
    # The record comes last: without it, or with that of other bytes, nothing is read.
    contents = {
        f"{name}.model": vocabulary.model,
        f"{name}.vocab": "".join(f"{p}\n" for p in vocabulary.pieces).encode(),
        f"{name}.json": (json.dumps(record, indent=2) + "\n").encode(),
    }
    for file, content in contents.items():
        replace_file(place / file, content)
