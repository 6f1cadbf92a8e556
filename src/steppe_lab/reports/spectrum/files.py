"""A spectrum as files: numbers for programs, pictures, and a page for people."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steppe import plots
from steppe_lab.analysis.single import Network
from steppe_lab.analysis.spectrum import NetworkSpectrum, spectrum_record, stem_of
from steppe_lab.reports.spectrum.page import RECORD, render
from steppe_lab.reports.spectrum.words import by_layer
from steppe_lab.reports.text.provenance import made_with
from steppe_lab.runs.settings import SpectrumSettings
from steppe_lab.store.json_files import (
    cannot,
    digest,
    write_atomically,
    write_json,
)
from steppe_lab.training.settings import options_of

PAGE = "spectrum.html"
POINTS = 10_000  # of the density in its file


def folder_for(network: Network, settings: SpectrumSettings, runs: Path) -> Path:
    """The folder of a spectrum where none is named: another for other settings."""
    key = digest([network.digest, settings.model_dump(mode="json")])
    return runs / "spectra" / f"{stem_of(network)}-{key[:8]}"


def publish_spectrum(
    result: NetworkSpectrum, folder: Path, *, data_dir: Path | None = None
) -> dict[str, Path]:
    """Write the files; the record comes last, so that all is there where it is.

    Args:
        result: numbers of the spectrum.
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
    stem, whole = result.stem, result.spectrum
    paths = {
        "eigenvalues": folder / f"{stem}_eigen.npy",
        "weights": folder / f"{stem}_weight.npy",
        "density": folder / f"{stem}_density.npy",
        "density_picture": folder / f"eig_{stem}.png",
        "layers_picture": folder / f"trace_{stem}.png",
        "page": folder / PAGE,
        "record": folder / RECORD,
    }
    layers = by_layer(result)
    bars = plots.bars(
        {name: part.value for name, part in layers.items()},
        stderrs={name: part.stderr for name, part in layers.items()},
        xlabel="trace",
    )
    width = result.settings.width
    curve = torch.stack(whole.density(width, points=POINTS), dim=1)
    page = render(result, command=command_of(result, data_dir), versions=made_with())
    contents = {
        "eigenvalues": _npy(whole.nodes.numpy()),
        "weights": _npy(whole.weights.numpy()),
        "density": _npy(curve.numpy()),
        "density_picture": plots.save_png(plots.density(whole, sigma=width)),
        "layers_picture": plots.save_png(bars),
        "page": page.rstrip().encode() + b"\n",
    }
    # While files are written there is no record, so that none speaks of older ones.
    try:
        paths["record"].unlink(missing_ok=True)
    except OSError as error:
        raise cannot("write", paths["record"], error) from error
    for name, content in contents.items():
        write_atomically(paths[name], content)
    files = {name: path.name for name, path in paths.items() if name != "record"}
    write_json(paths["record"], {**spectrum_record(result), "files": files})
    return paths


def command_of(result: NetworkSpectrum, data_dir: Path | None = None) -> str:
    """The command that makes the same numbers; DIR for an unnamed data folder."""
    words = ["steppe", "spectrum", str(result.network.path)]
    words += options_of(result.settings)
    belongs = result.network.belongs
    words += belongs.options() if belongs else []
    words += ["--loss", "plain"] if result.network.plain else []
    if result.network.recipe.reads_files or data_dir is not None:
        words += ["--data-dir", str(data_dir or "DIR")]
    trusted = () if belongs else result.network.recipe.code
    words += ["--trust", *trusted] if trusted else []
    return shlex.join(words)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
