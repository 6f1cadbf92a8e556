"""What is said of a spectrum, on a terminal and on a page."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.results import Eigenpairs, Estimate
from steppe_lab.analysis.spectrum import Layers, NetworkSpectrum
from steppe_lab.reports.text.numbers import number, one_or_more, percent, with_error

MATRICES = {
    "hessian": "Hessian",
    "ggn": "Gauss-Newton matrix",
    "fisher": "Fisher matrix",
    "empirical_fisher": "empirical Fisher matrix",
}


RESOLVED = 0.01  # residual as a share of the eigenvalue
VISIBLE = 1e-5  # error as a share of a value; smaller ones are those of float32


@dataclass(frozen=True)
class Sum:
    """A number about the whole spectrum."""

    title: str
    value: str
    how: str


def title(found: NetworkSpectrum) -> str:
    """What the report is about."""
    network = found.network
    return f"Spectrum of {network.recipe.model.name} trained by {network.trained_by}"


def matrix_of(found: NetworkSpectrum) -> str:
    """The matrix in words."""
    return MATRICES[found.settings.matrix]


def end_rows(found: NetworkSpectrum) -> list[list[str]]:
    """Rank, largest and its residual, smallest and its residual."""
    top, bottom = found.spectrum.top, found.spectrum.bottom
    sides = [_cells(top), list(reversed(_cells(bottom)))]
    return [
        [str(rank + 1), *left, *right]
        for rank, (left, right) in enumerate(zip(*sides, strict=True))
    ]


def doubts(found: NetworkSpectrum) -> list[str]:
    """Sentences on what did not reach its accuracy."""
    whole = found.spectrum
    late = [
        name
        for name, pairs in (("largest", whole.top), ("smallest", whole.bottom))
        if not pairs.converged
    ]
    told = []
    if late:
        told.append(
            f"Residuals of the {' and '.join(late)} eigenvalues are above 1 % of "
            "their magnitude for some; take more --steps."
        )
    return told


def sums(found: NetworkSpectrum) -> list[Sum]:
    """Trace, norm, effective dimension and what else is known of the whole."""
    whole, layers, steps = found.spectrum, found.layers, found.spectrum.nodes.shape[1]
    rows = [Sum("trace", estimate(whole.trace), _drawn(whole.trace))]
    same = layers.matrix == found.settings.matrix
    known = same and not whole.trace.samples and layers.exact
    if not known:
        name = MATRICES[layers.matrix]
        heading = "trace, tensor by tensor" if same else f"trace of the {name}"
        rows.append(Sum(heading, estimate(layers.total), _drawn(layers.total)))
    return [
        *rows,
        Sum("Frobenius norm", estimate(whole.frobenius), _drawn(whole.frobenius)),
        Sum(
            "effective dimension",
            estimate(found.effective_dimension),
            f"sum of λ / (λ + α) over the positive ones of {whole.size:,} eigenvalues "
            f"λ, α = {_alpha(found)}; {_probes(found)}",
        ),
        Sum(
            "sum of the Ritz values",
            number(whole.ritz_sum),
            "of all eigenvalues, so the trace"
            if is_complete(found)
            else f"of {steps} steps, on whose number it depends; published as a "
            "trace, which it is not",
        ),
    ]


def counting(found: NetworkSpectrum) -> list[str]:
    """How eigenvalues are counted where not all of them are known."""
    if is_complete(found):
        return []
    single = int(found.spectrum.single[0].sum())
    told = [
        "The share of the eigenvalues that a node stands for is drawn with the random "
        f"start. Of the nodes, {single} have converged, apart from their neighbours "
        "and from 0: each counts as one eigenvalue exactly. The other shares are "
        "estimated, in agreement with the trace; the standard error holds what is "
        "random in them and what the last quarter of the steps has changed."
    ]
    if found.settings.probes == 1:
        told.append(
            "One start cannot tell an eigenvalue from several equal ones; two can "
            "(--probes 2)."
        )
    return told


def answer(found: NetworkSpectrum) -> list[str]:
    """Where the network is sharp, in a few sentences."""
    smallest, largest = ends(found)
    are = "are" if _ends_resolved(found) else "reach at least"
    told = [
        f"The eigenvalues of the {matrix_of(found)} {are} from {number(smallest)} to "
        f"{number(largest)}, at a {found.settings.part} loss of "
        f"{number(found.loss.value)}."
    ]
    leading, share = largest_layer(found)
    if leading:
        about = "" if found.layers.exact else "About "
        told.append(
            f"{about}{percent(share)} of the trace of the "
            f"{MATRICES[found.layers.matrix]} is in layer {leading}."
        )
    return told


def ends(found: NetworkSpectrum) -> tuple[float, float]:
    """The smallest and the largest eigenvalue that were found."""
    nodes = found.spectrum.nodes
    return float(nodes.min()), float(nodes.max())


def is_complete(found: NetworkSpectrum) -> bool:
    """Whether there were as many steps as eigenvalues: all of them are known."""
    return found.spectrum.nodes.shape[1] == found.spectrum.size


def largest_layer(found: NetworkSpectrum) -> tuple[str, float]:
    """The layer with the largest trace and its share; "" where that says nothing."""
    total, layers = found.layers.total.value, by_layer(found)
    if not total > 0 or min(part.value for part in layers.values()) < 0:
        return "", 0.0
    name = max(layers, key=lambda layer: layers[layer].value)
    return name, layers[name].value / total


def by_layer(found: NetworkSpectrum) -> dict[str, Estimate]:
    """Traces of layers: of tensors whose names differ in their last part alone.

    The errors of tensors are added: they come from the same draws.
    """
    layers: dict[str, Estimate] = {}
    for tensor, part in found.layers.by_tensor.items():
        name = _layer(found, tensor)
        before = layers.get(name, Estimate(value=0.0))
        layers[name] = Estimate(
            value=before.value + part.value,
            stderr=before.stderr + part.stderr,
            samples=part.samples,
        )
    return layers


def layer_rows(found: NetworkSpectrum) -> list[list[str]]:
    """Tensor, entries, trace, its share, and the mean over the entries."""
    total = found.layers.total.value
    return [
        [
            name,
            f"{found.sizes[name]:,}",
            estimate(part),
            percent(part.value / total) if total > 0 else "–",
            number(part.value / found.sizes[name]),
        ]
        for name, part in found.layers.by_tensor.items()
    ]


def layers_note(layers: Layers) -> str:
    """Whose traces they are and how they were found."""
    how = "exactly" if layers.exact else f"by {layers.total.samples} draws"
    why = f" ({layers.why})" if layers.why else ""
    return f"Of the {MATRICES[layers.matrix]}, {how}{why}."


def estimate(found: Estimate) -> str:
    """A value with its standard error, where that is more than rounding."""
    visible = found.stderr > VISIBLE * abs(found.value)
    return with_error(found.value, found.stderr if visible else 0.0)


def _ends_resolved(found: NetworkSpectrum) -> bool:
    """Whether the outermost eigenvalues are known to within a hundredth."""
    top, bottom = found.spectrum.top, found.spectrum.bottom
    if not len(top.values):
        return is_complete(found)
    return all(
        float(pairs.residuals[place]) <= RESOLVED * abs(float(pairs.values[place]))
        for pairs, place in ((top, 0), (bottom, -1))
    )


def _layer(found: NetworkSpectrum, tensor: str) -> str:
    """Name of the module of a tensor; a mere number is followed by what it is."""
    name = tensor.rpartition(".")[0]
    if not name:
        return tensor
    kind = type(found.network.objective.model.get_submodule(name)).__name__
    return f"{name} ({kind})" if name.replace(".", "").isdigit() else name


def _cells(pairs: Eigenpairs) -> list[list[str]]:
    return [
        [number(value, 4), number(residual, 2)]
        for value, residual in zip(
            pairs.values.tolist(), pairs.residuals.tolist(), strict=True
        )
    ]


def _drawn(found: Estimate) -> str:
    return f"± standard error, {found.samples} draws" if found.samples else "exact"


def _alpha(found: NetworkSpectrum) -> str:
    alpha = number(found.effective_dimension.details["alpha"])
    given = found.settings.alpha is not None
    return alpha if given else f"{alpha}, a hundredth of the largest"


def _probes(found: NetworkSpectrum) -> str:
    probes = found.effective_dimension.samples
    if not probes:
        return "exact"
    return f"± standard error, {one_or_more(probes, 'probe')}"
