"""Trainings of two processes: each process does a job, and the first one's counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import small_trainings
from steppe_lab.training.loop import train

WORLD = 2


def run(job: Callable[[dict[str, Any]], Any], given: dict[str, Any], folder: Path):
    """Results of a job in each of two processes that torchrun could have started."""
    mp.spawn(_process, (job, given, str(folder)), nprocs=WORLD)
    return [
        torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)
    ]


def _process(rank: int, job: Any, given: Any, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    # All trainings of a job meet in one group, as a file needs no free port.
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD
    )
    torch.save(job(given), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def trained(given: dict[str, Any]) -> dict[str, Any]:
    """Train by each recipe that is given, resumed after the first epoch where said."""
    leads = os.environ["RANK"] == "0"
    done = {}
    for name, settings in given.items():
        samples = settings.pop("samples", 40)
        made = small_trainings.recipe(**settings, processes=WORLD)
        split = small_trainings.split(samples)
        kept: list[bytes] = []
        keep = kept.append if leads else None
        whole = train(made, split, keep=keep, keep_every=0)
        resumed = train(made, split, resume=kept[0] if leads else None)
        done[name] = {
            "weights": whole.model.state_dict(),
            "history": whole.history,
            "resumed": resumed.model.state_dict(),
            "resumed_history": resumed.history,
            "gradients": whole.gradients,
        }
    return done
