"""What each of several processes does in the tests of data parallel training."""

from __future__ import annotations

import copy
import datetime
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import loops
from steppe.optimizers import OPTIMIZERS

WORLD = 2
Job = Callable[[int, str], Any]


def run(job: Job, names: list[str], folder: Path) -> list[dict[str, Any]]:
    """What a job gives for each name, in each process of a group of two.

    An exception is given instead of a result, so that one name does not hide others.
    """
    mp.spawn(_worker, (job, names, str(folder)), nprocs=WORLD)
    return [
        torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)
    ]


@contextmanager
def joined(rank: int, world: int, folder: str) -> Iterator[None]:
    """One process of a group that meets in a folder."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    yield
    dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        yield
    finally:
        # A thread of the group takes the interpreter's lock to drop its last tensors.
        # Whoever deletes the group before waits for that thread and has the lock: no
        # test would ever go on. Asleep, this thread has not.
        dist.barrier()
        time.sleep(0.1)
        dist.destroy_process_group()


def _worker(rank: int, job: Job, names: list[str], folder: str) -> None:
    results = {}
    with joined(rank, WORLD, folder):
        for name in names:
            try:
                results[name] = job(rank, name)
            except Exception:
                results[name] = traceback.format_exc()
            dist.barrier()
        torch.save(results, f"{folder}/{rank}.pt")


def shard(rank: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x[rank::WORLD], y[rank::WORLD]


def parallel(*, buckets: bool = False) -> tuple[nn.Module, DistributedDataParallel]:
    """A model over processes; gradients may be views of DDP's own buckets."""
    model = loops.make_model()
    return model, DistributedDataParallel(model, gradient_as_bucket_view=buckets)


def make(name: str, module: nn.Module, **more: Any) -> Any:
    entry = OPTIMIZERS[name]
    return entry.make(loops.base_for(entry, module), **{**entry.spec.example, **more})


def local(rank: int, name: str) -> dict[str, Any]:
    """Three steps, each process perturbed by its own gradient."""
    model, ddp = parallel()
    opt = make(name, model, model=ddp)
    for x, y in loops.batches(3):
        loops.loop_step(opt, ddp, *shard(rank, x, y))
    return {"values": loops.values(model), "synced": ddp.require_backward_grad_sync}


def everywhere(rank: int, name: str) -> dict[str, Any]:
    """Three steps, all processes perturbed alike."""
    model, ddp = parallel(buckets=True)
    opt = make(name, model, model=ddp, sync="global")
    for x, y in loops.batches(3):
        loops.loop_step(opt, ddp, *shard(rank, x, y))
    return {"values": loops.values(model)}


def micro_batches(rank: int, name: str) -> dict[str, Any]:
    """Steps over two micro-batches per process, averaged in the second one only."""
    model, ddp = parallel(buckets=True)
    opt = make(name, model, model=ddp)
    for x, y in loops.batches(3):
        xs, ys = shard(rank, x, y)
        opt.zero_grad()
        with ddp.no_sync():
            _micro_batch(opt, ddp, xs[::2], ys[::2])
        _micro_batch(opt, ddp, xs[1::2], ys[1::2])
        opt.step()
    return {"values": loops.values(model)}


def _micro_batch(opt: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    for _ in opt.passes(accumulate=True):
        xs, ys = opt.take(x, y)
        (F.cross_entropy(model(xs), ys) / 2).backward()


def one_bad_process(rank: int, name: str) -> dict[str, Any]:
    """A first pass that overflows in the second process only."""
    model, ddp = parallel()
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    opt = make(name, model, model=ddp, scaler=scaler)
    x, y = shard(rank, *next(loops.batches(1)))
    before = loops.values(model)
    for index in opt.passes():
        xs, ys = opt.take(x, y)
        factor = float("inf") if rank == 1 and index == 0 else 1.0
        scaler.scale(F.cross_entropy(ddp(xs), ys) * factor).backward()
    scaler.step(opt)
    scaler.update()
    return {
        "clean": loops.identical(loops.values(model), before),
        "scale": scaler.get_scale(),
    }


def sharded(rank: int, name: str) -> dict[str, Any]:
    """Three steps of a model whose parameters are spread over the processes."""
    model = loops.make_model()
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    opt = make(name, model, model=model)
    for x, y in loops.batches(3):
        loops.loop_step(opt, model, *shard(rank, x, y))
    state = copy.deepcopy(opt.state_dict())
    opt.load_state_dict(state)
    for x, y in loops.batches(1, start=3):
        loops.loop_step(opt, model, *shard(rank, x, y))
    return {"values": [p.full_tensor().detach() for p in model.parameters()]}
