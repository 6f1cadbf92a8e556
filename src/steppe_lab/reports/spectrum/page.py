"""A spectrum as one HTML page that needs nothing else, not even its script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import partial

from steppe import plots
from steppe.pages.attachment import attached
from steppe.pages.picture import Picture, pictured
from steppe.pages.sources import cited
from steppe.pages.templating import template
from steppe_lab.analysis.spectrum import NetworkSpectrum, spectrum_record
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
    loss_of,
    matrix_of,
    sums,
    title,
)
from steppe_lab.reports.text.numbers import listed, number, one_or_more
from steppe_lab.reports.text.provenance import origin_sentences
from steppe_lab.runs.settings import SpectrumSettings
from steppe_lab.store.json_files import json_line

RECORD = "spectrum.json"  # name of the file with all numbers
SOURCES = (
    "Stochastic Lanczos quadrature: Ghorbani et al., 2019, arXiv:1901.10159; width of "
    "the Gaussians: Lin et al., 2016, doi:10.1137/130934283; traces by layer: Dangel "
    "et al., 2020, arXiv:1912.10985; effective dimension: MacKay, 1992, "
    "doi:10.1162/neco.1992.4.3.415"
)


def render(
    result: NetworkSpectrum,
    *,
    command: str,
    versions: Mapping[str, str],
    written: date | None = None,
) -> str:
    """The page.

    Args:
        result: numbers of the spectrum.
        command: makes the page again.
        versions: of the packages that made it.
        written: its date; None for today.
    """
    record = json_line(spectrum_record(result))
    return template("spectrum.html.j2", "steppe_lab.reports.spectrum").render(
        verb="spectrum",
        title=title(result),
        facts=_facts(result),
        question="How sharp is the loss around this network?",
        answer=answer(result),
        doubts=doubts(result),
        ends=end_rows(result),
        sums=sums(result),
        contents=_contents(ends=bool(end_rows(result))),
        files=[attached(RECORD, record, text="Numbers as JSON", what="numbers")],
        written=(written or date.today()).isoformat(),
        pictures=[density_picture(result), layers_picture(result)],
        tensors=layer_rows(result),
        layers_note=layers_note(result.layers),
        starts=_starts(result.settings.probes),
        complete=is_complete(result),
        counting=counting(result),
        matrix=matrix_of(result),
        loss=loss_of(result),
        settings=_settings(result.settings),
        result=result,
        sources=cited(SOURCES),
        command=command,
        versions=versions,
        origins=origin_sentences(result.network.origins, "The network was"),
    )


def _contents(*, ends: bool) -> list[tuple[str, str]]:
    """Sections of the page: pairs of a place and a name."""
    return [
        ("answer", "Answer"),
        ("figures", "Figures"),
        ("sums", "The whole spectrum"),
        *([("ends", "Both ends")] if ends else []),
        ("layers", "Tensor by tensor"),
        ("measured", "How it was measured"),
        ("settings", "Settings"),
        ("again", "Make it again"),
    ]


def density_picture(result: NetworkSpectrum) -> Picture:
    """The density with the eigenvalues at both ends."""
    whole = result.spectrum
    values = [*whole.top.values.tolist(), *whole.bottom.values.tolist()]
    marked = (
        f" Marked: {listed([number(value) for value in values])}." if values else ""
    )
    low, high = ends(result)
    return pictured(
        partial(plots.density, whole, sigma=result.settings.width),
        title="Density of the eigenvalues",
        caption="Share of the eigenvalues per unit, on a logarithmic axis; the height "
        "of the floor is a tenth of that of one eigenvalue alone.",
        alt=f"Density of the eigenvalues of the {matrix_of(result)}, from "
        f"{number(low)} to {number(high)}.{marked}",
    )


def layers_picture(result: NetworkSpectrum) -> Picture:
    """A bar for the trace of each layer."""
    layers = by_layer(result)
    traces = [f"{name} {number(part.value)}" for name, part in layers.items()]
    return pictured(
        partial(
            plots.bars,
            {name: part.value for name, part in layers.items()},
            stderrs={name: part.stderr for name, part in layers.items()},
            xlabel="trace",
        ),
        title="Trace by layer",
        caption=layers_note(result.layers),
        alt=f"Trace by layer: {', '.join(traces)}.",
    )


def _facts(result: NetworkSpectrum) -> list[tuple[str, str]]:
    recipe = result.network.recipe
    terms = result.spectrum.details["terms"]
    notes = "; ".join(result.network.notes)
    return [
        ("data", str(recipe.data)),
        *([("notes", notes)] if notes else []),
        ("model", str(recipe.model)),
        ("parameters", f"{result.spectrum.size:,}"),
        ("optimizer", result.network.trained_by),
        ("matrix", matrix_of(result)),
        ("loss terms", f"{terms:,}, {result.settings.part}"),
        ("mode", result.settings.mode),
        ("products", f"{result.spectrum.products:,}"),
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
