"""Options that several verbs share, and where their things lie."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pydantic import BaseModel
from tyro.conf import Positional

from steppe.errors import SettingError
from steppe_lab.cli.parsing import Arguments

if TYPE_CHECKING:
    from steppe_lab.analysis.foreign import Belongs
    from steppe_lab.store.store import Store
    from steppe_lab.training.trained_loss import LossKind

Settings = TypeVar("Settings", bound=BaseModel)

CPU = "cpu"  # the device of settings that name none
OUT = Path("steppe-runs")
LOSSES = (None, "trained", "plain")  # of a checkpoint of steppe


class CheckpointArguments(Arguments):
    """Arguments of the verbs that read a checkpoint."""

    checkpoint: Positional[Path]
    """A model.safetensors that steppe wrote, the folder of its run, or the id of the
    run, which for a store other than steppe-runs is STORE/ID; RUN@best, RUN@50 for
    weights that were kept along the training; or, with --model and --data, weights that
    torch.save wrote."""
    model: str | None = None
    """The network of weights that another program saved: module:function that builds
    it, or name:setting=value."""
    data: str | None = None
    """The data of such weights: module:function that gives tensors, a loader or
    batches, or the name of a data set."""
    loss: str | None = None
    """The loss of such weights: module:function of (outputs, targets) or of (model,
    batch) that gives one for each sample, cross_entropy, mse, next_token, or of
    landscape programs smooth_crossentropy and softmax_mse; the default follows from
    the targets. Of a checkpoint of steppe: trained, the one it was trained
    on (the default), or plain, without label smoothing and L2."""
    weights: str | None = None
    """Which weights, where a file holds several, such as model_ema."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    device: str | None = None
    """A torch device; the default is the one trained on."""
    trust: tuple[str, ...] = ()
    """Code of yours that the checkpoint may run, as module:function; no other is. What
    this command names is yours anyway: bare, the option adds nothing."""

    bare: ClassVar[frozenset[str]] = frozenset({"--trust"})


def part_of(args: Arguments, record: type[Settings]) -> Settings:
    """The settings of a record among the arguments of a verb."""
    return record(**{name: getattr(args, name) for name in record.model_fields})


def use_data_dir(data_dir: Path | None) -> None:
    """Tell this process and the workers it starts where the data is."""
    if data_dir is None:
        return
    from steppe_lab.datasets.loading import DATA_DIR

    # Workers are processes of their own and inherit nothing but the environment.
    os.environ[DATA_DIR] = str(data_dir.resolve())


def check_place(path: Path) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Raises:
        StoreError: a folder is there, or the system refuses.
    """
    from steppe_lab.store.json_files import cannot

    folder = path.parent
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        while not folder.exists():
            folder = folder.parent
        # Rights alone do not tell: a read-only disk refuses as well.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot("write", path, error) from error


def trusted(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names after --trust, each of which must be able to name code.

    Raises:
        SettingError: one that is no module:function.
    """
    for name in names:
        module, _, function = name.partition(":")
        if not module or not function.isidentifier():
            raise SettingError(
                f"--trust takes module:function, or nothing, got '{name}'; measures "
                "come before options."
            )
    return names


def belongs(args: CheckpointArguments) -> Belongs | None:
    """The network, data and loss that options name for weights of another program.

    Raises:
        SettingError: --model without --data, or the others without both.
    """
    from steppe_lab.analysis.foreign import Belongs

    if args.model is not None and args.data is not None:
        return Belongs(args.model, args.data, args.loss, args.weights)
    if {args.model, args.data, args.weights} == {None} and args.loss in LOSSES:
        return None
    raise SettingError(
        "--model and --data go together, and --loss and --weights with them, for "
        "weights that another program saved; give both, or none of them for a "
        "checkpoint of steppe, whose --loss is trained or plain."
    )


def loss_kind(args: CheckpointArguments) -> LossKind:
    """The loss of a checkpoint of steppe."""
    return "plain" if args.loss == "plain" else "trained"


def read_devices(
    text: str, device: str = CPU, workers: int | None = None
) -> tuple[str, ...]:
    """Devices of one kind, as they follow --devices.

    Args:
        text: with commas between them; "" for none.
        device: that --device names beside them.
        workers: that --workers asks for; None where it is left out.

    Example:
        >>> read_devices("cuda:0, cuda:1"), read_devices("")
        (('cuda:0', 'cuda:1'), ())

    Raises:
        SettingError: none between two commas, several kinds, --device of another, or
            another number of workers.
    """
    if not text:
        return ()
    devices = tuple(name.strip() for name in text.split(","))
    if not all(devices) or len({kind_of([name]) for name in devices}) > 1:
        raise SettingError(
            "--devices takes devices of one kind with commas between them, as "
            f"cuda:0,cuda:1, got '{text}'; results of other kinds differ."
        )
    if device not in (CPU, kind_of(devices)):
        raise SettingError(
            f"--devices says where workers compute, got '{text}' and --device "
            f"{device}; leave --device out."
        )
    if workers not in (None, len(devices)):
        raise SettingError(
            f"--devices names a device for each worker, got '{text}' and --workers "
            f"{workers}; leave --workers out, and name a device twice for two workers."
        )
    return devices


def kind_of(devices: Sequence[str]) -> str:
    """The kind of device that the settings of runs name, such as cuda."""
    return devices[0].partition(":")[0]


def open_store(out: Path) -> Store:
    """The run store in a folder."""
    from steppe_lab.store.store import Store

    return Store(out)


def cores() -> int:
    """Processes that can run at once here."""
    # In a container the machine has more cores than this process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
