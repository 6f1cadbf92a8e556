"""Parallel text: files of two languages in which line n of one translates line n."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steppe.errors import DataError
from steppe_lab.datasets.formats.compact import Texts
from steppe_lab.datasets.formats.published import Published, folder_of, share_of
from steppe_lab.datasets.formats.sgm import is_sgm, segments_of
from steppe_lab.datasets.formats.text import MOST_BYTES, lines_of

Part = Literal["train", "validation", "test"]
Files = Mapping[Part, Sequence[str]]  # names without their languages, one after another
Lines = Mapping[str, Texts]  # sentences by language

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
        counts: dict[str, list[int]] = {language: [] for language in self.languages}
        lines = {
            language: Texts.of(self._lines(folder, form[part], language, own))
            for language, own in counts.items()
        }
        for stem, *each in zip(form[part], *counts.values(), strict=True):
            if len(set(each)) > 1:
                names = " and ".join(f"{stem}.{one}" for one in counts)
                raise DataError(
                    f"{names} in {folder} must have a line for each pair, got "
                    f"{each[0]:,} and {each[1]:,} lines; make line n of one the "
                    "translation of line n of the other."
                )
        if not all(any(map(str.strip, own)) for own in lines.values()):
            raise DataError(
                f"the {part} files of {self.name} in {folder} must hold a "
                "sentence, got empty lines alone; write one on each line."
            )
        return lines

    def _lines(
        self, folder: Path, stems: Iterable[str], language: str, counts: list[int]
    ) -> Iterator[str]:
        """Lines of several files of a language; the number of each goes to `counts`."""
        again = self.published.fix(folder)
        for stem in stems:
            path = self.published.require(folder, f"{stem}.{language}")
            counts.append(0)
            lines: Iterable[str] = (
                segments_of(path, again)
                if is_sgm(path)
                else lines_of(path, again, most=self.most)
            )
            for line in lines:
                counts[-1] += 1
                yield line

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
