"""Flags of the published landscape code, as options of `steppe landscape`.

Sources: plot_surface.py, plot_2D.py and plot_trajectory.py beside Li et al., 2018,
arXiv:1712.09913, and the copy of the first for SAM of the course CS-439, which adds
flags of its networks. Whoever adds an option to a verb need not look here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from steppe.errors import SettingError
from steppe_lab.runs.landscape_settings import read_coordinates

Given = dict[str, str]

SHORT = {"m": "mpi", "c": "cuda", "l": "loss_name", "f": "surf_file"}
SWITCHES = {"mpi", "cuda", "raw_data", "same_dir", "show", "plot"}
NETWORK = {  # settings of networks, with their published defaults
    "wide_resnet": {"depth": "16", "width_factor": "8", "dropout": "0.0"},
    "ecg_transformer": {
        "d_model": "200",
        "n_head": "2",
        "n_layer": "1",
        "ffn_hidden": "128",
        "dropout": "0.0",
    },
    "gcn": {"hidden_channels": "64"},
}
OURS = {"width_factor": "width"}  # settings under another name
# Flags with a value that no option of ours has.
VALUES = {
    *("batch_size", "threads", "ngpu", "dataset", "datapath", "data_split"),
    *("split_idx", "trainloader", "testloader", "model_folder", "model_file"),
    *("model_file2", "model_file3", "loss_name", "dir_type", "xnorm", "ynorm"),
    *("xignore", "yignore", "idx", "surf_file", "proj_file", "loss_max"),
    *("percentage", "train_rate", "max_len", "sequence_len"),
    *("surf_name", "zlim", "xmin", "xmax"),
    *(name for settings in NETWORK.values() for name in settings),
}
SHARED = {"model", "x", "y", "names", "dir_file"}  # with options of ours
PUBLISHED = (SWITCHES | VALUES) - {"same_dir"}  # and of no option of ours
MODELS = {
    **dict.fromkeys(("cifar", "WideResNet"), "wide_resnet"),
    **dict.fromkeys(("mitbih", "Transformer"), "ecg_transformer"),
    **dict.fromkeys(("GCN", "gcn"), "gcn"),
}
LOSSES = {
    "crossentropy": "cross_entropy",
    "mse": "softmax_mse",
    "smooth_crossentropy": "smooth_crossentropy",
}
CIFAR10 = 50_000  # training images, which a percentage is of
QUANTITIES = {"train_acc": "accuracy", "train_err": "error"}  # of published files
PICTURES = ("contour", "contourf", "heat", "surface")
_FLAG = re.compile(r"--?([A-Za-z][\w-]*)(?:=(.*))?", re.DOTALL)
_UNIT = re.compile(r"1_block\.block\.(\d+)\.")


def translated(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments with published flags as arguments of ours, and notes on them.

    A call without a flag of the published code alone stays as it is.

    Args:
        arguments: after `steppe landscape`.

    Returns:
        The arguments, and sentences without full stops on flags without a meaning.

    Raises:
        SettingError: a flag that asks for what steppe does not do.
        CheckpointError: a network whose form must be read off its file, which is none.
    """
    flags = [name for name in _names(arguments) if name in PUBLISHED]
    if not flags:
        return list(arguments), []
    given, others = _split(arguments)
    networks = _networks(given)
    if not networks:
        raise SettingError(
            f"--{flags[0]} is a flag of the published landscape code, and goes with "
            "--model_file; `steppe landscape --help` lists the options of steppe."
        )
    words = [
        *networks,
        *others,
        *_belongs(given, networks, {"data", "loss"}.intersection(_names(others))),
        *_axes(given, networks),
        *_outputs(given, networks, own="out" in _names(others)),
    ]
    return words, list(_notes(given))


def translated_plot(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of `steppe landscape plot` with published flags as ours, and notes.

    Raises:
        SettingError: a flag without a value, or given twice.
    """
    if not PUBLISHED.intersection(_names(arguments)):
        return list(arguments), []
    given, others = _split(arguments)
    files = [given["surf_file"]] if given.get("surf_file") else []
    name = given.get("surf_name", "train_loss")
    words = [] if name == "train_loss" else [f"--quantity={QUANTITIES.get(name, name)}"]
    if given.get("zlim") and "--vmax" not in [a.partition("=")[0] for a in others]:
        words.append(f"--vmax={given['zlim']}")
    if given.get("proj_file"):
        words.append(f"--paths={given['proj_file']}")
    given = {name: each for name, each in given.items() if name != "dir_file"}
    return [*files, *others, *words], list(_notes(given))


def _names(arguments: Sequence[str]) -> list[str]:
    """Names of the flags among arguments, with underscores."""
    return [_name(flag[1]) for each in arguments if (flag := _FLAG.fullmatch(each))]


def _name(word: str) -> str:
    word = word.replace("-", "_")
    return SHORT.get(word, word)


def _split(arguments: Sequence[str]) -> tuple[Given, list[str]]:
    """Published flags by name, and all other arguments."""
    given: Given = {}
    others: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        flag = _FLAG.fullmatch(argument)
        name = _name(flag[1]) if flag else ""
        if name in SWITCHES:
            given[name] = "true"
        elif flag and name in VALUES | SHARED:
            if name in given:
                raise SettingError(f"--{name} is given twice; give it once.")
            if flag[2] is None and not left:
                raise SettingError(f"--{name} needs a value; write it after --{name}.")
            given[name] = left.pop(0) if flag[2] is None else flag[2]
        else:
            others.append(argument)
    return given, others


def _networks(given: Given) -> list[str]:
    folder = given.get("model_folder", "")
    names = [given.get(f"model_file{n}", "") for n in ("", "2", "3")]
    return [_inside(folder, name) for name in names if name]


def _inside(folder: str, name: str) -> str:
    inside = Path(folder) / name
    return str(inside) if folder and inside.exists() else name


def _belongs(given: Given, networks: Sequence[str], own: Collection[str]) -> list[str]:
    """Network, data, loss and device; `own` has those that options of ours name."""
    words = []
    if own or "model" in given or "dataset" in given:
        model = _model(given, networks)
        words.append(f"--model={model}")
        words += [] if "data" in own else [f"--data={_data(given, model)}"]
    if words and "loss" not in own:
        name = given.get("loss_name", "crossentropy")
        if name not in LOSSES:
            raise SettingError(f"--loss_name takes {', '.join(LOSSES)}, got '{name}'.")
        words.append(f"--loss={LOSSES[name]}")
    if given.get("datapath"):
        words.append(f"--data-dir={given['datapath']}")
    if "cuda" in given and _has_cuda():
        words.append("--device=cuda")
    return words + _samples(given)


def _samples(given: Given) -> list[str]:
    if _number(given, "data_split", 1) > 1:
        raise SettingError(
            "--data_split has no meaning here; give --samples N for a part of the "
            "samples, drawn by the seed of the data."
        )
    if given.get("trainloader") or given.get("testloader"):
        raise SettingError(
            "--trainloader and --testloader would run code of a file; give --data a "
            "function of yours as module:function that makes the loader."
        )
    share = _number(given, "percentage", 1)
    if not 0 < share <= 1:
        raise SettingError(f"--percentage must be in (0, 1], got {share:g}.")
    return [f"--samples={int(share * CIFAR10)}"] if share < 1 else []


def _number(given: Given, name: str, default: float) -> float:
    """The number of a flag; no published flag takes one that is not finite."""
    text = given.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SettingError(f"--{name} takes a number, got '{text}'.")
    return number


def _model(given: Given, networks: Sequence[str]) -> str:
    name = given.get("model", "WideResNet")
    if name not in MODELS:  # of the registry, or of the user
        return name
    ours = MODELS[name]
    settings = {key: given.get(key, each) for key, each in NETWORK[ours].items()}
    if ours == "gcn":  # the published number is that of the first convolution
        return f"gcn:hidden={2 * int(_number(settings, 'hidden_channels', 64))}"
    if ours == "wide_resnet" and networks:
        settings["form"] = _form(Path(networks[0]), settings["depth"])
    said = [f"{OURS.get(key, key)}={value}" for key, value in settings.items()]
    return f"{ours}:{','.join(said)}"


def _form(path: Path, depth: str) -> str:
    """Which network of a depth is in a file: davda54 has one unit more in a block."""
    from steppe_lab.training.weights import read_states

    names = [name for state in read_states(path).values() for name in state]
    units = 1 + max((int(m[1]) for n in names if (m := _UNIT.search(n))), default=0)
    published = depth.isdecimal() and int(depth) == 6 * units + 4
    return "published" if published else "davda54"


def _data(given: Given, model: str) -> str:
    name = given.get("dataset", "cifar10")
    rate = given.get("train_rate", "70")
    if rate != "70":
        raise SettingError(
            f"--train_rate must be 70, the share of graphs that are trained on, got "
            f"{rate}; give --data a function of yours for another."
        )
    if name == "mitbih":
        return "heartbeat"
    if model.startswith("gcn") and ":" not in name:
        return f"tudataset:name={name}"
    if name != "cifar10":
        return name
    # The original has published statistics, its copy for SAM those of the data.
    own = given.get("model", "WideResNet") in MODELS
    kind = "unit" if "raw_data" in given else "computed" if own else "channel"
    return f"cifar10:standardise={kind}"


def _axes(given: Given, networks: Sequence[str]) -> list[str]:
    """Subspace and coordinates."""
    words = [f"--x={given.get('x') or '-1:1:51'}"]
    words += [f"--y={given['y']}"] if given.get("y") else []
    words.append(f"--dims={2 if given.get('y') else 1}")
    states = given.get("dir_type", "weights") == "states"
    words.append(f"--batch-norm={'interpolate' if states else 'freeze'}")
    if len(networks) > 1 + bool(given.get("y")):
        return words
    letters = ["x", "y"] if given.get("y") else ["x"]
    for letter in letters[len(networks) - 1 :]:
        for setting in ("norm", "ignore"):
            value = given.get(f"{letter}{setting}") or "none"
            option = f"y-{setting}" if letter == "y" else setting
            same = value == (given.get(f"x{setting}") or "none") and len(networks) == 1
            if letter == "x" or not same:
                words.append(f"--{option}={value}")
    words += ["--same-dir"] if "same_dir" in given else []
    words += ["--of=states"] if given.get("dir_type") == "states" else []
    if (file := given.get("dir_file")) and Path(file).exists():
        words.append(f"--dir-file={file}")
    return [*words, f"--seed={given.get('idx', '0')}"]


def _outputs(given: Given, networks: Sequence[str], *, own: bool) -> list[str]:
    """Files to write; `own` where an option of ours names them."""
    words = ["--pictures", *PICTURES] if "plot" in given and given.get("y") else []
    names = given.get("names", "plain")
    words.append(f"--names={names}")
    if own:
        return words
    surface = _surface_file(given, networks, names)
    # Published names of pictures begin with the whole name of the surface.
    picture = surface + ".png" if names == "reference" else _stem(surface) + ".png"
    return [*words, "--out", surface, *([picture] if "plot" in given else [])]


def _stem(path: str) -> str:
    return str(Path(path).with_suffix(""))


def _surface_file(given: Given, networks: Sequence[str], names: str) -> str:
    if given.get("surf_file"):
        return given["surf_file"]
    if names != "reference":
        from steppe_lab.cli.options import OUT

        return str(OUT / f"{Path(networks[0]).stem}.h5")
    return _published_name(given, networks)


def _published_name(given: Given, networks: Sequence[str]) -> str:
    """The name of a surface in the published code."""
    from steppe.surfaces.files.reference_names import Flags, surface_file

    files = ("model_file", "model_file2", "model_file3")
    names = ("dir_type", "xignore", "xnorm", "yignore", "ynorm")
    x = read_coordinates(given.get("x") or "-1:1:51", "x")
    y = read_coordinates(given.get("y", ""), "y")
    if any(each is not None and len(each) != 3 for each in (x, y)):
        raise SettingError(
            "--names reference has a range in its names, as --x=-1:1:51; leave it out "
            "for coordinates one by one."
        )
    fields: dict[str, Any] = {
        **dict(zip(files, networks, strict=False)),
        **{name: given[name] for name in names if name in given},
        "x": x,
        "y": y,
        "raw_data": "raw_data" in given,
        "same_dir": "same_dir" in given,
        "idx": int(_number(given, "idx", 0)),
    }
    return surface_file(Flags(**fields))


def _notes(given: Given) -> Iterator[str]:
    from steppe_lab.reports.text.numbers import listed

    without = [
        *("mpi", "threads", "ngpu", "batch_size", "split_idx", "show", "loss_max"),
        *("max_len", "sequence_len", "xmin", "xmax"),
    ]
    idle = [f"--{name}" for name in without if name in given]
    if "cuda" in given and not _has_cuda():
        idle.append("--cuda")
    if idle:
        yield (
            f"{listed(idle)} of the published code {'have' if idle[1:] else 'has'} no "
            "effect here"
        )
    if _number(given, "percentage", 1) < 1:
        yield "--percentage is of 50,000 samples, drawn without regard to classes"
    if (file := given.get("dir_file")) and not Path(file).exists():
        yield f"directions are in the file of the surface, and not in {file}"


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
