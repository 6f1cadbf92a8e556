"""Run the benchmarks: python -m benchmarks [PART ...] [--data-dir DIR] [--out FILE].

Prints a line per benchmark with its ratio and the bound it is held to, writes all of
it as JSON with the machine and the versions, and exits with 1 if a bound is broken.

`python -m benchmarks steps --against REV` times steps of four methods here over those
of another revision of the project, in turns; see `against.py`. `main_job --against REV`
does the same for `steppe compare sgd sam lpf_sgd`; see `main_job.py`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    against,
    curvature,
    landscapes,
    main_job,
    measures,
    memory,
    noise,
    packed,
    peers,
    steps,
    studies,
    training,
)
from benchmarks.problems import LARGE
from benchmarks.timing import Benchmark, surroundings

PLAIN: dict[str, Callable[[], Iterator[Benchmark]]] = {
    "steps": steps.benchmarks,
    "peers": peers.benchmarks,
    "memory": memory.benchmarks,
    "noise": noise.benchmarks,
    "training": training.benchmarks,
    "studies": studies.benchmarks,
    "packed": packed.benchmarks,
}


def measured(benchmark: Benchmark, rounds: int) -> dict[str, Any]:
    found = benchmark.run(max(5, rounds // 4) if benchmark.model in LARGE else rounds)
    # With an interval, a bound is broken where all of it lies above.
    kept = found.get("ratio_interval", [found["ratio"]])[0] <= benchmark.bound
    verdict = "ok" if kept else "BROKEN"
    print(
        f"{benchmark.name:36} {benchmark.model:12} {found['ratio']:.3f} "
        f"(bound {benchmark.bound:.3g}) {verdict}",
        flush=True,
    )
    about = {"benchmark": benchmark.name, "bound": benchmark.bound, "kept": kept}
    return {**about, **found}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    names = [*PLAIN, "curvature", "measures", "landscapes"]
    parts_there = [*names, "main_job", []]
    parser.add_argument("parts", nargs="*", choices=parts_there, default=[])
    parser.add_argument("--only", default="", help="benchmarks whose name holds this")
    parser.add_argument("--rounds", type=int, help="3 of the main job, else 40")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies, if at all")
    parser.add_argument("--against", metavar="REV", help="over another revision")
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="for each step against another"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = PLAIN | {
        "curvature": partial(curvature.benchmarks, args.data_dir),
        "measures": partial(measures.benchmarks, args.data_dir),
        "landscapes": partial(landscapes.benchmarks, args.data_dir),
    }
    chosen: Iterable[Benchmark]
    name = f"cpu-{datetime.date.today().isoformat()}"
    if args.against is None and "main_job" in args.parts:
        parser.error("main_job needs a revision to compare with: --against REV")
    if args.against is None:
        chosen = [b for part in args.parts or names for b in parts[part]()]
    elif args.parts == ["steps"]:
        chosen = against.benchmarks(args.against, args.seconds)
        name = f"steps-against-{args.against}-{name}"
    elif args.parts == ["main_job"]:
        chosen = main_job.benchmarks(args.against)
        name = f"main-job-against-{args.against}-{name}"
    else:
        parser.error("--against goes with one of the parts steps and main_job")
    out = args.out or Path(__file__).parent / "results" / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"date": name[-10:], **surroundings(), "results": []}
    for benchmark in chosen:
        if args.only in benchmark.name:
            record["results"].append(
                measured(
                    benchmark, args.rounds or (3 if args.parts == ["main_job"] else 40)
                )
            )
            out.write_text(json.dumps(record, indent=2) + "\n")  # a long run may end
    print(f"written to {out}")
    return 0 if all(result["kept"] for result in record["results"]) else 1


if __name__ == "__main__":
    sys.exit(main())
