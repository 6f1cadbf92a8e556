"""Sentences, tables and notes about a spectrum, for terminals and pages."""

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

LOSSES = {"cross_entropy": "cross-entropy", "mse": "squared error"}
RESOLVED = 0.01  # residual as a share of the eigenvalue
VISIBLE = 1e-5  # error as a share of a value; smaller ones are those of float32


@dataclass(frozen=True)
class Sum:
    """A number about the whole spectrum."""

    title: str
    value: str
    how: str


def title(result: NetworkSpectrum) -> str:
    """The heading of a report: the network and its optimizer, or its file.

    Pages of several files of another program would else have one heading.
    """
    network = result.network
    name = network.recipe.model.name
    if network.belongs:
        return f"Spectrum of {name} in {network.path.name}"
    return f"Spectrum of {name} trained by {network.trained_by}"


def matrix_of(result: NetworkSpectrum) -> str:
    """The matrix in words."""
    return MATRICES[result.settings.matrix]


def loss_of(result: NetworkSpectrum) -> str:
    """The loss in words; one without a common name by its own."""
    name = str(result.spectrum.details["loss"])
    return LOSSES.get(name, f"loss {name}")


def end_rows(result: NetworkSpectrum) -> list[list[str]]:
    """Rank, largest and its residual, smallest and its residual."""
    top, bottom = result.spectrum.top, result.spectrum.bottom
    sides = [_cells(top), list(reversed(_cells(bottom)))]
    return [
        [str(rank + 1), *left, *right]
        for rank, (left, right) in enumerate(zip(*sides, strict=True))
    ]


def doubts(result: NetworkSpectrum) -> list[str]:
    """Sentences on eigenvalues that did not reach their accuracy."""
    whole = result.spectrum
    late = [
        name
        for name, pairs in (("largest", whole.top), ("smallest", whole.bottom))
        if not pairs.converged
    ]
    sentences = []
    if late:
        sentences.append(
            f"Residuals of the {' and '.join(late)} eigenvalues are above 1 % of "
            "their magnitude for some; take more --steps."
        )
    return sentences


def sums(result: NetworkSpectrum) -> list[Sum]:
    """Trace, norm, effective dimension and sum of the Ritz values."""
    whole, layers, steps = (
        result.spectrum,
        result.layers,
        result.spectrum.nodes.shape[1],
    )
    rows = [Sum("trace", estimate(whole.trace), _drawn(whole.trace))]
    same = layers.matrix == result.settings.matrix
    # Twice the same exact number would look like two measurements that agree.
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
            estimate(result.effective_dimension),
            f"sum of λ / (λ + α) over the positive ones of {whole.size:,} eigenvalues "
            f"λ, α = {_alpha(result)}; {_probes(result)}",
        ),
        Sum(
            "sum of the Ritz values",
            number(whole.ritz_sum),
            "of all eigenvalues, so the trace"
            if is_complete(result)
            else f"of {steps} steps, on whose number it depends; published as a "
            "trace, which it is not",
        ),
    ]


def counting(result: NetworkSpectrum) -> list[str]:
    """How eigenvalues are counted where not all of them are known."""
    if is_complete(result):
        return []
    single = int(result.spectrum.single[0].sum())
    sentences = [
        "The share of the eigenvalues that a node stands for is drawn with the random "
        f"start. Of the nodes, {single} have converged, apart from their neighbours "
        "and from 0: each counts as one eigenvalue exactly. The other shares are "
        "estimated, in agreement with the trace; the standard error holds what is "
        "random in them and what the last quarter of the steps has changed."
    ]
    if result.settings.probes == 1:
        sentences.append(
            "One start cannot tell an eigenvalue from several equal ones; two can "
            "(--probes 2)."
        )
    return sentences


def answer(result: NetworkSpectrum) -> list[str]:
    """Where the network is sharp, in a few sentences."""
    smallest, largest = ends(result)
    are = "are" if _ends_resolved(result) else "reach at least"
    sentences = [
        f"The eigenvalues of the {matrix_of(result)} {are} from {number(smallest)} to "
        f"{number(largest)}, at a {result.settings.part} loss of "
        f"{number(result.loss.value)}."
    ]
    leading, share = largest_layer(result)
    if leading:
        about = "" if result.layers.exact else "About "
        sentences.append(
            f"{about}{percent(share)} of the trace of the "
            f"{MATRICES[result.layers.matrix]} is in layer {leading}."
        )
    return sentences


def ends(result: NetworkSpectrum) -> tuple[float, float]:
    """The smallest and the largest Ritz value."""
    nodes = result.spectrum.nodes
    return float(nodes.min()), float(nodes.max())


def is_complete(result: NetworkSpectrum) -> bool:
    """Whether there were as many steps as eigenvalues: all of them are known."""
    return result.spectrum.nodes.shape[1] == result.spectrum.size


def largest_layer(result: NetworkSpectrum) -> tuple[str, float]:
    """The layer with the largest trace and its share; "" where that says nothing."""
    # Shares of a sum with negative parts would be more than all of it.
    total, layers = result.layers.total.value, by_layer(result)
    if not total > 0 or min(part.value for part in layers.values()) < 0:
        return "", 0.0
    name = max(layers, key=lambda layer: layers[layer].value)
    return name, layers[name].value / total


def by_layer(result: NetworkSpectrum) -> dict[str, Estimate]:
    """Traces of layers: of tensors whose names differ in their last part alone.

    The errors of tensors are added: they come from the same draws.
    """
    layers: dict[str, Estimate] = {}
    for tensor, part in result.layers.by_tensor.items():
        name = _layer(result, tensor)
        before = layers.get(name, Estimate(value=0.0))
        layers[name] = Estimate(
            value=before.value + part.value,
            stderr=before.stderr + part.stderr,
            samples=part.samples,
        )
    return layers


def layer_rows(result: NetworkSpectrum) -> list[list[str]]:
    """Tensor, entries, trace, its share, and the mean over the entries."""
    total = result.layers.total.value
    return [
        [
            name,
            f"{result.sizes[name]:,}",
            estimate(part),
            percent(part.value / total) if total > 0 else "–",
            number(part.value / result.sizes[name]),
        ]
        for name, part in result.layers.by_tensor.items()
    ]


def layers_note(layers: Layers) -> str:
    """The matrix of the traces and the method that computed them."""
    how = "exactly" if layers.exact else f"by {layers.total.samples} draws"
    why = f" ({layers.why})" if layers.why else ""
    return f"Of the {MATRICES[layers.matrix]}, {how}{why}."


def estimate(quantity: Estimate) -> str:
    """A value with its standard error, where that is more than rounding."""
    # Rounding of float32 is no doubt that a reader can do something about.
    visible = quantity.stderr > VISIBLE * abs(quantity.value)
    return with_error(quantity.value, quantity.stderr if visible else 0.0)


def _ends_resolved(result: NetworkSpectrum) -> bool:
    """Whether the outermost eigenvalues are known to within a hundredth."""
    top, bottom = result.spectrum.top, result.spectrum.bottom
    if not len(top.values):
        return is_complete(result)
    return all(
        float(pairs.residuals[place]) <= RESOLVED * abs(float(pairs.values[place]))
        for pairs, place in ((top, 0), (bottom, -1))
    )


def _layer(result: NetworkSpectrum, tensor: str) -> str:
    """Name of the module of a tensor; a mere number is followed by its class."""
    name = tensor.rpartition(".")[0]
    if not name:
        return tensor
    kind = type(result.network.objective.model.get_submodule(name)).__name__
    return f"{name} ({kind})" if name.replace(".", "").isdigit() else name


def _cells(pairs: Eigenpairs) -> list[list[str]]:
    return [
        [number(value, 4), number(residual, 2)]
        for value, residual in zip(
            pairs.values.tolist(), pairs.residuals.tolist(), strict=True
        )
    ]


def _drawn(quantity: Estimate) -> str:
    return (
        f"± standard error, {quantity.samples} draws" if quantity.samples else "exact"
    )


def _alpha(result: NetworkSpectrum) -> str:
    alpha = number(result.effective_dimension.details["alpha"])
    chosen = result.settings.alpha is not None
    return alpha if chosen else f"{alpha}, a hundredth of the largest"


def _probes(result: NetworkSpectrum) -> str:
    probes = result.effective_dimension.samples
    if not probes:
        return "exact"
    return f"± standard error, {one_or_more(probes, 'probe')}"
