"""Help of a verb: how to call it, an example, and its options by subject."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from steppe_lab.cli import SUBCOMMANDS
from steppe_lab.training.settings import option_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from steppe_lab.cli.parsing import Arguments

# Options by subject, in the order of the help.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "data and model": (
        *("data", "data_dir", "train_samples", "train_fraction", "subset"),
        *("test_fraction", "label_noise", "label_noise_kind", "data_noise"),
        *("held_out", "model", "task", "loss", "weights", "trust", "vocabulary"),
    ),
    "trials": (
        *("claim", "cell", "list", "scale", "levels", "limit", "only", "hours"),
        *("dry_run", "pilot", "anew"),
        "changed_code",
    ),
    "the table": (
        "gap",
        "factors",
        "group",
        "where",
        "within",
        "environments",
        "test_samples",
    ),
    "training": (
        *("optimizer", "base", "defaults", "augment", "sweep", "evaluate_every"),
        *("track",),
    ),
    "learning rate and epochs": (
        *("epochs", "batch_size", "epoch_size", "last_batch", "batch_by"),
        "lr_schedule",
        *("warmup_epochs", "monitor", "over_epochs"),
    ),
    "start, checkpoints and logs": (
        *("start_from", "with_optimizer", "checkpoint_every", "checkpoint_optimizer"),
        *("tensorboard",),
    ),
    "loss, clipping and stopping": (
        *("label_smoothing", "label_smoothing_form", "l2", "l2_on", "scored_loss"),
        *("clip_norm", "clip_value", "stop_at_loss", "stop_on", "stop_at", "go_on"),
        *("patience", "min_delta"),
    ),
    "measuring": (
        *(
            "measures",
            "measure_samples",
            "samples",
            "data_samples",
            "curvature_samples",
            "seconds",
            "part",
            "mode",
            "k",
            "steps",
        ),
        *("probes", "draws", "matrix", "sigma", "alpha", "line_points", "line_radius"),
        *(
            "also_test",
            "quantities",
            "every",
            "start",
            "further",
            "groups",
            "repeats",
            "other",
            "group_passes",
        ),
    ),
    "axes and points": (
        *("dirs", "dims", "x", "y", "norm", "ignore", "y_norm", "y_ignore"),
        *("same_dir", "of", "orthogonal", "unit", "dir_file", "batch_norm"),
        *("curve", "curve_file", "bends", "curve_steps", "view", "no_matched"),
        *("threshold", "points"),
        *("eigenvectors", "lr", "checkpoints", "tolerance", "exact"),
    ),
    "attacks": ("attacks", "eps", "protocol", "bounds"),
    "pictures": (
        "paths",
        "titles",
        "pictures",
        "quantity",
        "log",
        "vmin",
        "vmax",
        "vlevel",
    ),
    "randomness": ("seeds", "seed", "data_seed", "validation_seed"),
    "precision and speed": (
        "dtype",
        "amp",
        "channels_last",
        "compile",
        "perturbations",
    ),
    "running and output": (
        "device",
        "devices",
        "workers",
        "executor",
        "address",
        "gpus",
        "pack",
        "out",
        "names",
        "overwrite",
        "keep",
        "texts",
        "page",
        "as_json",
        *("study", "format", "csv", "store", "fix", "quick"),
    ),
}
OTHERS = "more options"
# Words for values whose type does not say what they are.
METAVARS: Mapping[str, str] = {
    "devices": "DEVICE,DEVICE",
    "optimizers": "OPTIMIZER[:SETTINGS]",
    "optimizer": "OPTIMIZER[:SETTINGS]",
    "base": "OPTIMIZER[:SETTINGS]",
    "defaults": "OPTIMIZER:SETTINGS",
    "data": "DATA[:SETTINGS]",
    "model": "MODEL[:SETTINGS]",
    "measures": "MEASURE[:SETTINGS]",
    "attacks": "ATTACK[:SETTINGS]",
    "eps": "BUDGET",
    "bounds": "LOW HIGH",
    "track": "TRACKER[:SETTINGS]",
    "lr_schedule": "SCHEDULE",
    "stop_at": "COLUMN>=X",
    "monitor": "METRIC",
    "over_epochs": "SETTING=SCHEDULE",
    "start_from": "FILE",
    "more": "MORE",
    "augment": "AUGMENTATION[:SETTINGS]",
    "sweep": "SETTING=VALUES",
    "trust": "MODULE:FUNCTION",
    "loss": "LOSS",
    "weights": "ENTRY",
    "further": "CHECKPOINT",
    "other": "SECOND",
    "third": "THIRD",
    "file": "FILE",
    "others": "OTHER",
    "surface": "SURFACE",
    "files": "FILE",
    "paths": "PATHS",
    "targets": "TARGET",
    "checkpoints": "CHECKPOINT",
    "eigenvectors": "INDEX",
    "x": "START:STOP:COUNT",
    "y": "START:STOP:COUNT",
    "data_dir": "DIR",
    "sigma": "WIDTH",
    "checkpoint": "CHECKPOINT",
    "study": "STUDY",
    "studies": "STUDY|TABLE",
    **dict.fromkeys(("gap", "factors", "group", "within", "environments"), "COLUMN"),
    "where": "CONDITION",
    "only": "FACTOR=LEVEL",
    "hours": "HOURS",
    "pack": "auto|off|N",
    "levels": "FACTOR=LEVEL,LEVEL",
}
LEFT = 30  # columns of the options; a longer one has a row of its own
WIDEST = 100  # columns of the page
HELP = "Show this page."


def help_page(record: type[Arguments], verb: str, about: str) -> str:
    """The page that --help prints, as wide as the terminal and 100 columns at most.

    Args:
        record: arguments of the verb, with an example.
        verb: its name.
        about: what it does, without a full stop.
    """
    width = min(WIDEST, shutil.get_terminal_size().columns)
    fields = record.model_fields
    placed = [name for name in fields if record.is_placed(name)]
    usage = ["usage: steppe", verb, *(_usage(n, fields[n]) for n in placed)]
    lines = [" ".join([*usage, "[OPTIONS]"]), "", f"{about[:1].upper()}{about[1:]}."]
    lines += ["", "example:", f"  {record.example}"]
    if subcommands := SUBCOMMANDS.get(verb):
        lines += ["", "subcommands, each with a --help of its own:"]
        for word, what in subcommands.items():
            lines += _rows(f"{verb} {word}", f"{what[:1].upper()}{what[1:]}.", width)
    if placed:
        lines += ["", "arguments:"]
        for name in placed:
            lines += _entry(_values(name, fields[name]), fields[name], width)
    for group, names in _grouped({n: f for n, f in fields.items() if n not in placed}):
        lines += ["", f"{group}:"]
        for name in names:
            value = _values(name, fields[name])
            head = f"--{option_of(name)} {value}".rstrip()
            lines += _entry(head, fields[name], width)
    lines += _rows("-h, --help", HELP, width)
    return "\n".join(lines) + "\n"


def metavar(name: str, kind: Any) -> str:
    """The word that stands for one value.

    Example:
        >>> metavar("epochs", int), metavar("out", Path), metavar("part", Literal["a"])
        ('N', 'PATH', 'a')
    """
    kinds = [each for each in get_args(kind) or (kind,) if each not in (NoneType, ...)]
    if name in METAVARS or kind is bool:
        return METAVARS.get(name, "")
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kinds[0]) is Literal:
        return "|".join(map(str, get_args(kinds[0])))
    plain = {int: "N", float: "X", Path: "PATH"}
    return plain.get(kinds[0], option_of(name).upper())


def _grouped(fields: Mapping[str, FieldInfo]) -> Iterator[tuple[str, list[str]]]:
    """Names by group; those of no group come last.

    A field says its group itself where its name means something else in other verbs.
    """
    of_itself = {
        name: field.json_schema_extra["group"]
        for name, field in fields.items()
        if isinstance(field.json_schema_extra, dict)
    }
    known = {name for members in GROUPS.values() for name in members}
    others = [name for name in fields if name not in known]
    for group, members in (*GROUPS.items(), (OTHERS, others)):
        own = [name for name in members if name in fields and name not in of_itself]
        own += [name for name, said in of_itself.items() if said == group]
        if own:
            yield group, own


def _usage(name: str, field: FieldInfo) -> str:
    value = _values(name, field)
    return value if field.is_required() else f"[{value}]"


def _values(name: str, field: FieldInfo) -> str:
    several = get_origin(field.annotation) is tuple
    return metavar(name, field.annotation) + (" ..." if several else "")


def _entry(head: str, field: FieldInfo, width: int) -> list[str]:
    text = " ".join((field.description or "").split())
    return _rows(head, f"{text} {_default(field)}".strip(), width)


def _default(field: FieldInfo) -> str:
    """The default in words; "" where there is none, or the text tells."""
    if field.is_required():
        return "Required."
    value = field.get_default(call_default_factory=True)
    if value is None or value is False or value in ((), ""):
        return ""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"Default: {shown}."


def _rows(head: str, text: str, width: int) -> list[str]:
    """An option and its text beside it, or below it where the option is long."""
    rows = textwrap.wrap(
        text, max(20, width - LEFT), break_on_hyphens=False, break_long_words=False
    )
    pad = " " * LEFT
    if len(head) + 4 > LEFT:
        return [f"  {head}", *(pad + row for row in rows)]
    first, *others = rows or [""]
    return [f"  {head}".ljust(LEFT) + first, *(pad + row for row in others)]
