"""A spectrum as files: numbers for programs, pictures, and a page for people."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steppe import plots
from steppe.errors import StoreError
from steppe_lab.analysis.single import Network
from steppe_lab.analysis.spectrum import NetworkSpectrum, spectrum_record, stem_of
from steppe_lab.reports.spectrum.page import render
from steppe_lab.reports.spectrum.words import by_layer
from steppe_lab.reports.text.provenance import made_with, options_of
from steppe_lab.runs.settings import SpectrumSettings
from steppe_lab.store.json_files import (
    cannot,
    digest,
    read_json,
    write_atomically,
    write_json,
)

RECORD, PAGE = "spectrum.json", "spectrum.html"
POINTS = 10_000  # of the density in its file


def folder_for(network: Network, settings: SpectrumSettings, runs: Path) -> Path:
    """The folder of a spectrum where none is named: another for other settings."""
    key = digest([network.digest, settings.model_dump(mode="json")])
    return runs / "spectra" / f"{stem_of(network)}-{key[:8]}"


def claim(folder: Path, network: Network) -> None:
    """Make the folder, unless it holds the spectrum of another network.

    Raises:
        StoreError: it does, or it cannot be made.
    """
    record = folder / RECORD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = record.exists()
    except OSError as error:
        raise cannot("write", folder, error) from error
    if not taken:
        return
    found = read_json(record, fix="delete it, or name another --out")
    before = found.get("checkpoint", {}) if isinstance(found, Mapping) else {}
    if before.get("sha256") != network.digest:
        raise StoreError(
            f"{folder} holds the spectrum of another checkpoint "
            f"({before.get('path')}); name another --out."
        )


def publish_spectrum(
    found: NetworkSpectrum, folder: Path, *, data_dir: Path | None = None
) -> dict[str, Path]:
    """Write the files; the record comes last, so that all is there where it is.

    Args:
        found: what to write.
        folder: gets `<model>_<optimizer>_eigen.npy` and `_weight.npy`, the nodes and
            weights of the density, shape (probes, steps); `_density.npy`, shape
            (points, 2), eigenvalues and densities; `eig_<model>_<optimizer>.png` and
            `trace_<model>_<optimizer>.png`; spectrum.html and spectrum.json.
        data_dir: folder with the files of data sets, for the command in the page.

    Returns:
        The paths, by what is there.

    Raises:
        StoreError: a file cannot be written.
    """
    stem, whole = found.stem, found.spectrum
    paths = {
        "eigenvalues": folder / f"{stem}_eigen.npy",
        "weights": folder / f"{stem}_weight.npy",
        "density": folder / f"{stem}_density.npy",
        "density_picture": folder / f"eig_{stem}.png",
        "layers_picture": folder / f"trace_{stem}.png",
        "page": folder / PAGE,
        "record": folder / RECORD,
    }
    layers = by_layer(found)
    bars = plots.bars(
        {name: part.value for name, part in layers.items()},
        stderrs={name: part.stderr for name, part in layers.items()},
        xlabel="trace",
    )
    width = found.settings.width
    curve = torch.stack(whole.density(width, points=POINTS), dim=1)
    page = render(found, command=command_of(found, data_dir), versions=made_with())
    contents = {
        "eigenvalues": _npy(whole.nodes.numpy()),
        "weights": _npy(whole.weights.numpy()),
        "density": _npy(curve.numpy()),
        "density_picture": plots.save_png(plots.density(whole, sigma=width)),
        "layers_picture": plots.save_png(bars),
        "page": page.rstrip().encode() + b"\n",
    }
    try:
        paths["record"].unlink(missing_ok=True)
    except OSError as error:
        raise cannot("write", paths["record"], error) from error
    for name, content in contents.items():
        write_atomically(paths[name], content)
    files = {name: path.name for name, path in paths.items() if name != "record"}
    write_json(paths["record"], {**spectrum_record(found), "files": files})
    return paths


def command_of(found: NetworkSpectrum, data_dir: Path | None = None) -> str:
    """The command that makes the same numbers; DIR stands for data not told of."""
    words = ["steppe", "spectrum", str(found.network.path)]
    words += options_of(found.settings)
    belongs = found.network.belongs
    words += ["--model", belongs.model, "--data", belongs.data] if belongs else []
    if found.network.recipe.reads_files or data_dir is not None:
        words += ["--data-dir", str(data_dir or "DIR")]
    trusted = found.network.recipe.code
    words += ["--trust", *trusted] if trusted else []
    return shlex.join(words)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
