"""Penn Treebank for language models: newspaper text in 10,000 words.

Source: Marcus et al., 1993, Building a large annotated corpus of English, in the form
of Mikolov et al., 2010, Recurrent neural network based language model: lower case,
numbers are N, words beyond the most frequent ones are <unk>, one sentence for each line
of ptb.train.txt, ptb.valid.txt and ptb.test.txt. The Linguistic Data Consortium
licenses the text.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset, note_on_count
from steppe_lab.datasets.formats.published import Published, folder_of
from steppe_lab.datasets.formats.text import read_lines
from steppe_lab.datasets.streams import BOUNDS, joined, language_model_data
from steppe_lab.datasets.words import WordVocabulary

PUBLISHED = Published(
    name="ptb",
    title="The Penn Treebank",
    url="https://catalog.ldc.upenn.edu/LDC99T42",
    folders=("ptb", "simple-examples/data", "penn", "."),
    put_into="ptb",
    suffixes=("", ".gz"),
    unpack=True,
)
OFFICIAL = {"train": 929_589, "valid": 73_760, "test": 82_430}  # tokens, with line ends
TITLES = {"train": "training", "valid": "validation", "test": "test"}
MOST_BYTES = 2**27  # of a file; the official ones have up to 5 MB


@DATASETS.add(
    "ptb",
    source="Mikolov et al., 2010, Recurrent neural network based language model",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    bounds=BOUNDS,
)
def ptb(*, data_dir: Path | None = None, steps: int = 20) -> Dataset:
    """Newspaper text in 10,000 words, from Mikolov's files.

    Args:
        data_dir: folder that holds ptb, simple-examples/data, penn or the files.
        steps: tokens of a piece of text, over which gradients go back.
    """
    folder = folder_of(PUBLISHED, data_dir, [f"ptb.{part}.txt" for part in OFFICIAL])
    texts = {}
    notes: tuple[str, ...] = ()
    for part, official in OFFICIAL.items():
        path = PUBLISHED.require(folder, f"ptb.{part}.txt")
        lines = read_lines(path, PUBLISHED.fix(folder), most=MOST_BYTES)
        texts[part] = [line.split() for line in lines]
        tokens = sum(map(len, texts[part])) + len(lines)
        notes += note_on_count(TITLES[part], tokens, official, "tokens")
    return language_model_data(
        "ptb",
        texts["train"],
        texts["test"],
        texts["valid"],
        steps=steps,
        vocabulary=WordVocabulary.of([joined(texts["train"])]),
        notes=notes,
    )
