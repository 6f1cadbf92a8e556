"""Parallel text: files of two languages in which line n of one translates line n."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steppe.errors import DataError
from steppe_lab.datasets.formats.published import Published, folder_of, share_of
from steppe_lab.datasets.formats.text import MOST_BYTES, read_lines

Part = Literal["train", "validation", "test"]
Files = Mapping[Part, Sequence[str]]  # names without their languages, one after another
Lines = Mapping[str, list[str]]  # sentences by language

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class ParallelText:
    """Sentences with their translations, as they were published.

    Args:
        name: of the data set.
        published: where the files come from and where they may lie.
        languages: endings of the files.
        forms: the files of each part; of several forms the one is read of whose files
            most are there, or the first of such.
        official: pairs of each part as published, where that is known.
        most: bytes of a file, unpacked.
        small: whether a vocabulary is learnt from it in a second, so that one whose
            size is said need not be prepared.
    """

    name: str
    published: Published
    languages: tuple[str, str]
    forms: tuple[Files, ...]
    official: Mapping[Part, int]
    most: int = MOST_BYTES
    small: bool = False

    def find(self, data_dir: Path | None) -> tuple[Path, Files]:
        """The folder with the files of a form, and the form.

        Raises:
            DataError: files of no form are complete.
        """

        def there(form: Files) -> float:
            return share_of(self.published, data_dir, self._names(form))

        form = max(self.forms, key=there)
        return folder_of(self.published, data_dir, self._names(form)), form

    def paths(self, folder: Path, form: Files) -> list[Path]:
        """All files of a form in a folder."""
        return [self.published.require(folder, name) for name in self._names(form)]

    def read(self, folder: Path, form: Files, part: Part) -> Lines:
        """Sentences of a part by language.

        Raises:
            DataError: files that are damaged, or whose lines are no pairs.
        """
        lines: dict[str, list[str]] = {language: [] for language in self.languages}
        for stem in form[part]:
            each = {one: self._lines(folder, f"{stem}.{one}") for one in lines}
            counts = [len(own) for own in each.values()]
            if len(set(counts)) > 1:
                names = " and ".join(f"{stem}.{one}" for one in each)
                raise DataError(
                    f"{names} in {folder} must have a line for each pair, got "
                    f"{counts[0]:,} and {counts[1]:,} lines; make line n of one the "
                    "translation of line n of the other."
                )
            for one, own in each.items():
                lines[one] += own
        if not all(any(map(str.strip, own)) for own in lines.values()):
            raise DataError(
                f"the {part} files of {self.name} in {folder} must hold a "
                "sentence, got empty lines alone; write one on each line."
            )
        return lines

    def _lines(self, folder: Path, name: str) -> list[str]:
        path = self.published.require(folder, name)
        return read_lines(path, self.published.fix(folder), most=self.most)

    def _names(self, form: Files) -> list[str]:
        return [
            f"{stem}.{language}"
            for part in PARTS
            for stem in form[part]
            for language in self.languages
        ]


def digest_of(lines: Lines) -> str:
    """SHA-256 of sentences in both languages, 64 digits, however they are packed."""
    total = hashlib.sha256()
    for language in sorted(lines):
        total.update(f"{language} {len(lines[language])}\n".encode())
        for line in lines[language]:
            total.update(f"{line}\n".encode())
    return total.hexdigest()
