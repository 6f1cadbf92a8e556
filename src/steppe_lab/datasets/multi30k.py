"""Multi30k: descriptions of 31,014 images in English and German.

Source: Elliott, Frank, Sima'an and Specia, 2016, Multi30K: multilingual English-German
image descriptions, arXiv:1605.00459; task 1, whose German sentences translate the
English ones, with the test set of 2016. Text as published: neither split into words nor
lower-cased.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.datasets import multi30k_texts
from steppe_lab.datasets.abstract import DATASETS, Dataset, note_on_count
from steppe_lab.datasets.formats.parallel import PARTS, ParallelText
from steppe_lab.datasets.formats.published import Download, Published
from steppe_lab.datasets.streams import BOUNDS as OF_STREAMS
from steppe_lab.datasets.translation import TITLES, Direction, translation
from steppe_lab.datasets.vocabulary import BOUNDS as OF_PIECES

URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
)
FILES = {  # bytes, SHA-256
    "train.de": (
        637044,
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    ),
    "train.en": (
        568929,
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    ),
    "val.de": (
        24681,
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    ),
    "val.en": (
        21650,
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    ),
    "test_2016_flickr.de": (
        22890,
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    ),
    "test_2016_flickr.en": (
        21077,
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    ),
}
PUBLISHED = Published(
    name="multi30k",
    title="Multi30k",
    url="https://github.com/multi30k/dataset",
    downloads=tuple(
        Download(f"{URL}{file}.gz", size, f"sha256:{digest}")
        for file, (size, digest) in FILES.items()
    ),
    folders=("multi30k", "multi30k/data/task1/raw", "."),
    put_into="multi30k",
    suffixes=(".gz", ""),
)
TEXT = ParallelText(
    name="multi30k",
    published=PUBLISHED,
    languages=("de", "en"),
    forms=(
        {"train": ("train",), "validation": ("val",), "test": ("test_2016_flickr",)},
    ),
    official={"train": 29_000, "validation": 1_014, "test": 1_000},
    most=2**24,
    small=True,
)


BOUNDS: Ranges = {
    **OF_PIECES,
    **OF_STREAMS,
    "least_count": at_least(1),
    "length": Range(1, 10_000, whole=True),
}


@DATASETS.add(
    "multi30k",
    source="Elliott et al., 2016, arXiv:1605.00459",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    parallel=TEXT,
    bounds=BOUNDS,
)
def multi30k(
    *,
    data_dir: Path | None = None,
    task: Literal["translation", "language_model", "language"] = "translation",
    direction: Direction = "de-en",
    vocabulary: int | None = None,
    steps: int = 20,
    least_count: int = 2,
    length: int = 40,
) -> Dataset:
    """Image descriptions in German and English, 29,000 pairs, 1,000 for test.

    Args:
        data_dir: folder that holds multi30k or the files themselves.
        task: what is learnt: translation, a language model of the English side, or
            which of the two languages a sentence is of.
        direction: from which language to which, in a translation.
        vocabulary: pieces of the vocabulary of translations, which is learnt where
            `steppe prepare` has not written it; None for the one beside the text.
        steps: tokens of a piece of text of the language model.
        least_count: occurrences below which a word of the other tasks is unknown.
        length: tokens of a sentence whose language is learnt; longer ones lose their
            beginning.
    """
    if task == "translation":
        return translation(TEXT, data_dir, direction=direction, vocabulary=vocabulary)
    folder, form = TEXT.find(data_dir)
    texts = {part: TEXT.read(folder, form, part) for part in PARTS}
    notes = [
        note
        for part in PARTS
        for note in note_on_count(
            TITLES[part], len(texts[part]["en"]), TEXT.official[part], "pairs"
        )
    ]
    if task == "language_model":
        return multi30k_texts.language_model(
            texts, steps=steps, least_count=least_count, notes=notes
        )
    return multi30k_texts.languages(
        texts, least_count=least_count, length=length, notes=notes
    )
