"""`steppe study extend`: more seeds, levels or measures, or longer trainings."""

from __future__ import annotations

from typing import ClassVar, TextIO

from pydantic import Field
from tyro.conf import Positional

from steppe_lab.cli.options import open_store, trusted
from steppe_lab.cli.study_work import WorkArguments, work_on


class Args(WorkArguments):
    """Arguments of `steppe study extend`."""

    example: ClassVar = "steppe study extend grid --seeds 5 --levels width=16,32"

    study: Positional[str | None] = None
    """Name of a study in --out, or its beginning; the default is the newest."""
    seeds: int | None = Field(default=None, ge=1)
    """So many seeds, 0 and up, beside those that there are."""
    levels: tuple[str, ...] = ()
    """Levels to add, as width=16,32; of a factor of whole methods, such as optimizer,
    each level by itself."""
    measures: tuple[str, ...] = ()
    """Measures to add; they alone are computed, in an analysis of their own."""
    epochs: int | None = Field(default=None, ge=1)
    """Epochs of longer trainings, which go on from the last states of the shorter
    ones, where these were kept and nothing depends on the length."""
    anew: bool = False
    """With --epochs: train from the beginning where a training cannot go on."""


def run(args: Args, results: TextIO) -> int:
    """Note the extension as a new version of the study, and do the runs it adds."""
    from steppe_lab.studies.extending import extended
    from steppe_lab.studies.longer import longer_trainings
    from steppe_lab.studies.stored import changed_study, open_study

    trust = trusted(args.trust)
    before = open_study(open_store(args.out), args.study, trust=trust)
    settings = extended(
        before.settings,
        seeds=args.seeds,
        levels=args.levels,
        measures=args.measures,
        epochs=args.epochs,
    )
    after = changed_study(before, settings, trust=trust)
    longer = longer_trainings(before, after.plan, anew=args.anew)
    return work_on(after, args, results, begin=longer)
