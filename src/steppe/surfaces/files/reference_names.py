"""Names of files as the published code of Li et al. makes them from its flags.

Source: Li et al., 2018, arXiv:1712.09913, and its published code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from os.path import commonprefix
from typing import Literal

FLAG = re.compile(r"_(xignore|xnorm|yignore|ynorm)=([a-z]+)")
KIND = re.compile(r"_(weights|states)(?=_|\.)")

Range = tuple[float, float, int]  # first and last coordinate, and their number


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of the published code that its names depend on."""

    model_file: str
    model_file2: str = ""
    model_file3: str = ""
    dir_type: Literal["weights", "states"] = "weights"
    x: Range = (-1.0, 1.0, 51)
    y: Range | None = None
    xignore: str = ""
    xnorm: str = ""
    yignore: str = ""
    ynorm: str = ""
    same_dir: bool = False
    idx: int = 0
    raw_data: bool = False
    data_split: int = 1
    split_idx: int = 0


def direction_file(flags: Flags) -> str:
    """Name of the file of directions.

    Example:
        >>> plain = Flags(model_file="a/net.t7", xignore="biasbn", xnorm="filter")
        >>> direction_file(plain)
        'a/net.t7_weights_xignore=biasbn_xnorm=filter.h5'
    """
    parts = [_first_axis(flags), flags.dir_type]
    parts += _set(flags, "xignore", "xnorm")
    name = "_".join(parts)
    if flags.y is not None and flags.model_file3:
        # Joined without an underscore, as published.
        name += _third(flags)
    elif flags.y is not None:
        further = _set(flags, "yignore", "ynorm")
        further += ["same_dir"] if flags.same_dir else []
        name = "_".join([name, *further])
    return f"{name}_idx={flags.idx}.h5" if flags.idx > 0 else f"{name}.h5"


def surface_file(flags: Flags, directions: str = "") -> str:
    """Name of the file of the surface.

    Args:
        flags: of the command.
        directions: name of the file of directions; by default that of the flags.

    Example:
        >>> surface_file(Flags(model_file="net.t7", y=(-1, 1, 20)))
        'net.t7_weights.h5_[-1.0,1.0,51]x[-1.0,1.0,20].h5'
    """
    name = f"{directions or direction_file(flags)}_{_range(flags.x)}"
    if flags.y is not None:
        name += f"x{_range(flags.y)}"
    if flags.raw_data:
        name += "_rawdata"
    if flags.data_split > 1:
        name += f"_datasplit={flags.data_split}_splitidx={flags.split_idx}"
    return f"{name}.h5"


def projection_file(directions: str, method: Literal["cos", "lstsq"]) -> str:
    """Name of the file of a projected trajectory.

    Example:
        >>> projection_file("directions.h5", "cos")
        'directions.h5_proj_cos.h5'
    """
    return f"{directions}_proj_{method}.h5"


def pca_file(
    folder: str,
    dir_type: Literal["weights", "states"] = "weights",
    ignore: str = "",
    save_epoch: int = 1,
) -> str:
    """Name of the file of directions of principal components.

    Example:
        >>> pca_file("run", ignore="biasbn", save_epoch=5)
        'run/PCA_weights_ignore=biasbn_save_epoch=5/directions.h5'
    """
    ignored = f"_ignore={ignore}" if ignore else ""
    return f"{folder}/PCA_{dir_type}{ignored}_save_epoch={save_epoch}/directions.h5"


def vtp_file(
    surface: str, values: str = "train_loss", zmax: float = -1, *, log: bool = False
) -> str:
    """Name of the file for ParaView.

    Example:
        >>> vtp_file("s.h5", zmax=10.0, log=True)
        's.h5_train_loss_zmax=10.0_log.vtp'
    """
    clipped = f"_zmax={float(zmax)}" if zmax > 0 else ""
    return f"{surface}_{values}{clipped}{'_log' if log else ''}.vtp"


def flags_of(name: str) -> dict[str, str]:
    """Flags that the name of a file of directions or of a surface tells.

    Example:
        >>> flags_of("net.t7_states_xignore=biasbn_xnorm=filter.h5_[-1.0,1.0,51].h5")
        {'dir_type': 'states', 'xignore': 'biasbn', 'xnorm': 'filter'}
    """
    kinds = KIND.findall(name)
    return {**({"dir_type": kinds[-1]} if kinds else {}), **dict(FLAG.findall(name))}


def _set(flags: Flags, *names: str) -> list[str]:
    return [f"{n}={getattr(flags, n)}" for n in names if getattr(flags, n)]


def _first_axis(flags: Flags) -> str:
    first, second = flags.model_file, flags.model_file2
    if not second:
        return first
    folder, name = _split(first)
    other_folder, other_name = _split(second)
    if folder == other_folder:
        return f"{first}_{other_name}"
    # Letter by letter, as published: "run1/a" and "run2/b" have "" in common.
    common = _split(commonprefix([first, second]))[0]  # noqa: RUF071
    below = other_folder[len(common) + 1 :]
    return f"{folder}_{name}_{below}_{other_name}"


def _third(flags: Flags) -> str:
    folder, name = _split(flags.model_file3)
    if folder == _split(flags.model_file)[0]:
        return flags.model_file3
    return f"{folder}_{name}"


def _split(path: str) -> tuple[str, str]:
    """Folder and name; as published, a path without a folder loses its last letter."""
    place = path.rfind("/")
    return path[:place], path[place + 1 :]


def _range(along: Range) -> str:
    first, last, count = along
    return f"[{float(first)},{float(last)},{int(count)}]"
