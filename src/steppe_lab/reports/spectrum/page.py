"""A spectrum as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from steppe import plots
from steppe_lab.analysis.spectrum import NetworkSpectrum
from steppe_lab.reports.html.picture import Picture, pictured
from steppe_lab.reports.html.sources import cited
from steppe_lab.reports.html.templating import template
from steppe_lab.reports.spectrum.words import (
    answer,
    by_layer,
    counting,
    doubts,
    end_rows,
    ends,
    is_complete,
    layer_rows,
    layers_note,
    matrix_of,
    sums,
    title,
)
from steppe_lab.reports.text.numbers import listed, number, one_or_more
from steppe_lab.runs.settings import SpectrumSettings

SOURCES = (
    "Stochastic Lanczos quadrature: Ghorbani et al., 2019, arXiv:1901.10159; width of "
    "the Gaussians: Lin et al., 2016, doi:10.1137/130934283; traces by layer: Dangel "
    "et al., 2020, arXiv:1912.10985; effective dimension: MacKay, 1992, "
    "doi:10.1162/neco.1992.4.3.415"
)


def render(found: NetworkSpectrum, *, command: str, versions: Mapping[str, str]) -> str:
    """The page.

    Args:
        found: what to report.
        command: what to type to make it again.
        versions: of the packages it was made with.
    """
    return template("spectrum.html.j2").render(
        verb="spectrum",
        title=title(found),
        facts=_facts(found),
        question="How sharp is the loss around this network?",
        answer=answer(found),
        doubts=doubts(found),
        ends=end_rows(found),
        sums=sums(found),
        pictures=[density_picture(found), layers_picture(found)],
        tensors=layer_rows(found),
        layers_note=layers_note(found.layers),
        starts=_starts(found.settings.probes),
        complete=is_complete(found),
        counting=counting(found),
        matrix=matrix_of(found),
        settings=_settings(found.settings),
        found=found,
        sources=cited(SOURCES),
        command=command,
        versions=versions,
    )


def density_picture(found: NetworkSpectrum) -> Picture:
    """The density with the eigenvalues at both ends."""
    whole = found.spectrum
    values = [*whole.top.values.tolist(), *whole.bottom.values.tolist()]
    marked = (
        f" Marked: {listed([number(value) for value in values])}." if values else ""
    )
    low, high = ends(found)
    return pictured(
        partial(plots.density, whole, sigma=found.settings.width),
        title="Density of the eigenvalues",
        caption="Share of the eigenvalues per unit, on a logarithmic axis; the height "
        "of the floor is a tenth of that of one eigenvalue alone.",
        alt=f"Density of the eigenvalues of the {matrix_of(found)}, from {number(low)} "
        f"to {number(high)}.{marked}",
    )


def layers_picture(found: NetworkSpectrum) -> Picture:
    """A bar for the trace of each layer."""
    layers = by_layer(found)
    told = [f"{name} {number(part.value)}" for name, part in layers.items()]
    return pictured(
        partial(
            plots.bars,
            {name: part.value for name, part in layers.items()},
            stderrs={name: part.stderr for name, part in layers.items()},
            xlabel="trace",
        ),
        title="Trace by layer",
        caption=layers_note(found.layers),
        alt=f"Trace by layer: {', '.join(told)}.",
    )


def _facts(found: NetworkSpectrum) -> list[tuple[str, str]]:
    recipe = found.network.recipe
    terms = found.spectrum.details["terms"]
    return [
        ("data", str(recipe.data)),
        ("model", str(recipe.model)),
        ("parameters", f"{found.spectrum.size:,}"),
        ("optimizer", found.network.trained_by),
        ("matrix", matrix_of(found)),
        ("samples", f"{terms:,} {found.settings.part}"),
        ("mode", found.settings.mode),
        ("products", f"{found.spectrum.products:,}"),
    ]


def _starts(probes: int) -> str:
    counted = one_or_more(probes, "random start")
    return f"each of {counted}" if probes > 1 else counted


def _settings(settings: SpectrumSettings) -> list[tuple[str, str, str]]:
    fields = type(settings).model_fields
    return [
        (name, _shown(getattr(settings, name)), _shown(field.default))
        for name, field in fields.items()
    ]


def _shown(value: object) -> str:
    return "by the largest eigenvalue" if value is None else str(value)
