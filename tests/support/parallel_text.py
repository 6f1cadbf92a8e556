"""Small parallel texts, in the files of the data sets that have them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from steppe_lab.cli import main

GERMAN = ("ein", "Hund", "läuft", "über", "die", "Straße", "und", "sieht", "Kinder")
ENGLISH = ("a", "dog", "runs", "over", "the", "street", "and", "sees", "children")
SIZES = {"train": 60, "val": 12, "test_2016_flickr": 15}


def pairs(count: int, seed: int) -> dict[str, list[str]]:
    """Sentences of 2 to 8 words, translated word by word."""
    generator = torch.Generator().manual_seed(seed)
    lines: dict[str, list[str]] = {"de": [], "en": []}
    for _ in range(count):
        length = int(torch.randint(2, 9, (), generator=generator))
        words = torch.randint(len(GERMAN), (length,), generator=generator).tolist()
        lines["de"].append(" ".join(GERMAN[word] for word in words) + ".")
        lines["en"].append(" ".join(ENGLISH[word] for word in words) + ".")
    return lines


def write_pairs(folder: Path, stem: str, lines: Mapping[str, Sequence[str]]) -> None:
    """One file for each language, gzip as published."""
    folder.mkdir(parents=True, exist_ok=True)
    for language, own in lines.items():
        raw = "".join(f"{line}\n" for line in own).encode()
        (folder / f"{stem}.{language}.gz").write_bytes(gzip.compress(raw, mtime=0))


def write_multi30k(data_dir: Path, **others: Mapping[str, Sequence[str]]) -> Path:
    """A small Multi30k below a data folder; other lines for some of its parts."""
    folder = data_dir / "multi30k"
    for seed, (stem, count) in enumerate(SIZES.items()):
        write_pairs(folder, stem, others.get(stem) or pairs(count, seed))
    return data_dir


def prepared_multi30k(data_dir: Path, vocabulary: int = 60) -> Path:
    """The same with its vocabulary."""
    write_multi30k(data_dir)
    sized = ["--vocabulary", str(vocabulary), "--data-dir", str(data_dir)]
    assert main(["prepare", "multi30k", *sized]) == 0
    return data_dir
