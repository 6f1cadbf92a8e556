"""The picture of the README, from a store that holds its comparison.

    steppe compare sgd sam lpf_sgd
    python docs/images/sharpness.py steppe-runs

Every dot is one network; the bar is the mean with its 95 % interval over the seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from steppe import plots
from steppe.plots import Theme
from steppe_lab.statistics.intervals import mean_interval
from steppe_lab.store.store import Store
from steppe_lab.studies.comparison import stored_study

FOLDER = Path(__file__).parent
NAMES = {"sgd": "SGD", "sam": "SAM", "lpf_sgd": "LPF-SGD"}


def main(root: str) -> None:
    comparison = stored_study(Store(Path(root))).collect()
    values = {
        shown: [row.measures["top_eigenvalue"]["value"] for row in comparison.of(name)]
        for name, shown in NAMES.items()
    }
    intervals = {name: mean_interval(group) for name, group in values.items()}
    for theme in get_args(Theme):
        figure = plots.dots(
            values,
            xlabel="largest eigenvalue of the Hessian",
            intervals={n: (i.mean, i.low, i.high) for n, i in intervals.items()},
            theme=theme,
        )
        path = FOLDER / f"sharpness-{theme}.svg"
        path.write_text(plots.save_svg(figure))


if __name__ == "__main__":
    main(*sys.argv[1:])
