"""WMT14: 4.5 million German and English sentences of parliament, news and the web.

Source: Bojar et al., 2014, Findings of the 2014 workshop on statistical machine
translation. Validation is newstest2013, test newstest2014. Two forms of the files are
read: the one of Luong, Pham and Manning, 2015, arXiv:1508.04025, which is split into
words, and which LPF-SGD (Bisla, Wang and Choromanska, 2022) was trained on; and the
three training corpora as published, whose words are as they were written. Test sets
may be those of statmt.org, in SGML: source and reference hold the same sentences of a
language.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset
from steppe_lab.datasets.formats.parallel import ParallelText
from steppe_lab.datasets.formats.published import Download, Published
from steppe_lab.datasets.translation import Direction, translation
from steppe_lab.datasets.vocabulary import BOUNDS

URL = "https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/"
PARTS = ("train", "newstest2013", "newstest2014")
PUBLISHED = Published(
    name="wmt14",
    title="WMT14",
    url=URL,
    downloads=tuple(  # of unknown size, without published digests
        Download(f"{URL}{part}.{language}")
        for part in PARTS
        for language in ("de", "en")
    ),
    folders=("wmt14", "wmt14.en-de", "."),
    put_into="wmt14",
    suffixes=("", ".gz"),
    aliases={
        f"{name}.{language}": tuple(f"{name}{end}.{language}.sgm" for end in ends)
        for name, ends in {
            "newstest2013": ("-src", "-ref"),
            "newstest2014": ("-deen-src", "-deen-ref"),
        }.items()
        for language in ("de", "en")
    },
)
CORPORA = ("europarl-v7.de-en", "commoncrawl.de-en", "news-commentary-v9.de-en")
TEXT = ParallelText(
    name="wmt14",
    published=PUBLISHED,
    languages=("de", "en"),
    forms=(
        {
            "train": ("train",),
            "validation": ("newstest2013",),
            "test": ("newstest2014",),
        },
        {
            "train": CORPORA,
            "validation": ("newstest2013",),
            "test": ("newstest2014",),
        },
    ),
    official={"validation": 3_000},
)


@DATASETS.add(
    "wmt14",
    source="Bojar et al., 2014",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    parallel=TEXT,
    bounds=BOUNDS,
)
def wmt14(
    *,
    data_dir: Path | None = None,
    direction: Direction = "de-en",
    vocabulary: int | None = None,
) -> Dataset:
    """German and English sentences, 4.5 million pairs, newstest2014 for test.

    Args:
        data_dir: folder that holds wmt14, wmt14.en-de or the files themselves.
        direction: from which language to which.
        vocabulary: pieces of the vocabulary that `steppe prepare` wrote; None for the
            one that lies beside the text.
    """
    return translation(TEXT, data_dir, direction=direction, vocabulary=vocabulary)
