"""`steppe prepare`: vocabulary and tokens of a data set of text, put beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from tyro.conf import Positional

from steppe.errors import SettingError
from steppe_lab.cli.parsing import Arguments


class Args(Arguments):
    """Arguments of `steppe prepare`."""

    example: ClassVar = "steppe prepare multi30k --vocabulary 8000 --data-dir data"

    data: Positional[str]
    """A data set of sentences and their translations: multi30k or wmt14."""
    vocabulary: int = 32_000
    """Pieces of words, which both languages share; small texts have fewer."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    out: Path | None = None
    """Another data folder for vocabulary and tokens, where that of the text cannot be
    written; the text gets links there. The default is the folder of the text."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a sentence."""


def run(args: Args, results: TextIO) -> int:
    """Learn the vocabulary, encode the text, report the place."""
    from steppe_lab.datasets import DATASETS
    from steppe_lab.datasets.loading import folder_of_data
    from steppe_lab.datasets.preparing import prepare
    from steppe_lab.store.json_files import json_line

    name = DATASETS.parse(args.data).name
    text = DATASETS[name].spec.parallel
    if text is None:
        several = [entry.name for entry in DATASETS if entry.spec.parallel]
        raise SettingError(
            f"prepare takes data sets of sentences and their translations, got {name}; "
            f"choose {' or '.join(several)}."
        )
    prepared = prepare(
        text,
        vocabulary=args.vocabulary,
        data_dir=args.data_dir or folder_of_data(),
        out=args.out,
    )
    if args.as_json:
        record = {"data": name, "model": str(prepared.model), "pieces": prepared.pieces}
        record |= {"sha256": prepared.sha256, "learnt": prepared.learnt}
        record |= {"encoded": prepared.encoded}
        print(json_line(record), file=results)
        return 0
    done = "has been learnt" if prepared.learnt else "was there"
    tokens = "have been encoded" if prepared.encoded else "were there"
    print(
        f"{prepared.model}: the vocabulary of {prepared.pieces:,} pieces {done}, "
        f"SHA-256 {prepared.sha256[:12]}; the tokens of all parts {tokens}",
        file=results,
    )
    return 0
