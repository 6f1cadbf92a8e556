"""The measures of the LPF-SGD study, one by one, as its protocol says.

Bisla et al., 2022, arXiv:2201.08025, supplement B: draws, bisections and Lanczos steps
in the numbers that its text and settings name, written anew from them. Coordinates are
those of the parameters: balancing them first would change no cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 256
EPS, TOLERANCE = 0.1, 1e-6
DRAWS_OF_PAC, DRAWS = 10, 100
SIGMA, GAMMA = 0.01, 100.0
LANCZOS_STEPS, STARTS, PRODUCTS_OF_NORM = 100, 2, 10
SGLD_STEPS, SGLD_RATE, SGLD_NOISE, SGLD_GAMMA, SGLD_MEMORY = 20, 0.1, 1e-4, 1e-4, 0.75


@dataclass
class Passes:
    """Work that was counted, over all of the data."""

    forwards: float = 0
    gradients: float = 0
    products: float = 0


class Study:
    """The protocol on one network.

    Args:
        model: in evaluation mode.
        x: inputs.
        y: classes.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        self.model = model.eval()
        self.batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
        self.rows = len(x)
        self.params = list(model.parameters())
        self.passes = Passes()
        self.noise = torch.Generator().manual_seed(0)

    def measures(self) -> dict[str, Callable[[], tuple[float, float]]]:
        """Each measure by its name in the library: value, and standard error."""
        return {
            "epsilon_sharpness": self.epsilon_sharpness,
            "pac_bayes": self.pac_bayes,
            "lpf": self.lpf,
            "local_entropy": self.local_entropy,
            "local_entropy_gradient": self.local_entropy_gradient,
            "shannon_entropy": self.shannon_entropy,
            "fisher_rao": self.fisher_rao,
            "frobenius_norm": self.frobenius_norm,
            "spectrum": self.spectrum,
        }

    @torch.no_grad()
    def loss(self) -> float:
        self.passes.forwards += 1
        sums = [
            F.cross_entropy(self.model(x), y, reduction="sum") for x, y in self.batches
        ]
        return float(sum(sums)) / self.rows

    def gradient(self) -> list[Tensor]:
        self.passes.gradients += 1
        total = [torch.zeros_like(p) for p in self.params]
        for x, y in self.batches:
            loss = F.cross_entropy(self.model(x), y, reduction="sum") / self.rows
            torch._foreach_add_(total, list(torch.autograd.grad(loss, self.params)))
        return total

    def product(self, vector: Sequence[Tensor]) -> list[Tensor]:
        self.passes.products += 1
        total = [torch.zeros_like(p) for p in self.params]
        for x, y in self.batches:
            loss = F.cross_entropy(self.model(x), y, reduction="sum") / self.rows
            gradient = torch.autograd.grad(loss, self.params, create_graph=True)
            image = torch.autograd.grad(gradient, self.params, list(vector))
            torch._foreach_add_(total, list(image))
        return total

    @contextmanager
    def moved(self, direction: Sequence[Tensor], by: float) -> Iterator[None]:
        """Weights moved along a direction, and back."""
        saved = [p.detach().clone() for p in self.params]
        with torch.no_grad():
            torch._foreach_add_(self.params, list(direction), alpha=by)
        yield
        with torch.no_grad():
            torch._foreach_copy_(self.params, saved)

    def draw(self) -> list[Tensor]:
        return [torch.empty_like(p).normal_(generator=self.noise) for p in self.params]

    def losses_around(self, std: float, draws: int) -> Tensor:
        losses = []
        for _ in range(draws):
            with self.moved(self.draw(), std):
                losses.append(self.loss())
        return torch.tensor(losses, dtype=torch.float64)

    def epsilon_sharpness(self) -> tuple[float, float]:
        base, gradient = self.loss(), self.gradient()
        high = 1.0

        def rise(step: float) -> float:
            with self.moved(gradient, step):
                return self.loss() - base

        while rise(high) < EPS:
            high *= 5
        low = 1e-16
        while high - low > TOLERANCE:
            middle = (low + high) / 2
            now = rise(middle)
            if abs(now - EPS) < TOLERANCE:
                break
            low, high = (middle, high) if now < EPS else (low, middle)
        length = math.sqrt(sum(float(g.square().sum()) for g in gradient))
        return 1 / (high * length), 0.0

    def pac_bayes(self) -> tuple[float, float]:
        base = self.loss()
        low, high, sigma = 5e-324, 100.0, 0.001
        rises = torch.zeros(1)
        while high - low > TOLERANCE:
            rises = self.losses_around(sigma, DRAWS_OF_PAC) - base
            rise = float(rises.mean())
            if abs(rise - EPS) < TOLERANCE:
                break
            low, high = (sigma, high) if rise < EPS else (low, sigma)
            sigma = (low + high) / 2
        error = float(rises.std()) / math.sqrt(DRAWS_OF_PAC)
        # Near a minimum the rise is of second order in sigma.
        return sigma, sigma * error / (2 * EPS)

    def lpf(self) -> tuple[float, float]:
        losses = self.losses_around(SIGMA, DRAWS)
        return float(losses.mean()), float(losses.std()) / math.sqrt(DRAWS)

    def local_entropy(self) -> tuple[float, float]:
        weights = (-self.losses_around(1 / GAMMA, DRAWS)).exp()
        error = float(weights.std() / weights.mean()) / math.sqrt(DRAWS)
        return -math.log(float(weights.mean())), error

    def local_entropy_gradient(self) -> tuple[float, float]:
        centre = [p.detach().clone() for p in self.params]
        mean = [p.clone() for p in centre]
        self.gradient()
        for _ in range(SGLD_STEPS):
            gradient = self.gradient()
            with torch.no_grad():
                rows = zip(
                    self.params, centre, mean, gradient, self.draw(), strict=True
                )
                for p, w, m, g, z in rows:
                    p.sub_(SGLD_RATE * (g + SGLD_GAMMA * (p - w)))
                    p.add_(z, alpha=SGLD_NOISE * math.sqrt(2 * SGLD_RATE))
                    m.mul_(SGLD_MEMORY).add_(p, alpha=1 - SGLD_MEMORY)
        with torch.no_grad():
            torch._foreach_copy_(self.params, centre)
        apart = zip(centre, mean, strict=True)
        return math.sqrt(sum(float((w - m).square().sum()) for w, m in apart)), 0.0

    @torch.no_grad()
    def shannon_entropy(self) -> tuple[float, float]:
        self.passes.forwards += 1
        entropies = []
        for x, _ in self.batches:
            logs = self.model(x).log_softmax(1)
            entropies.append(-(logs.exp() * logs).sum(1))
        every = torch.cat(entropies)
        return float(every.mean()), float(every.std()) / math.sqrt(len(every))

    def fisher_rao(self) -> tuple[float, float]:
        parameters = [p.detach() for p in self.params]
        image = self.product(parameters)
        pairs = zip(parameters, image, strict=True)
        return sum(float((p * i).sum()) for p, i in pairs), 0.0

    def frobenius_norm(self) -> tuple[float, float]:
        squares = torch.tensor(
            [
                sum(float(i.square().sum()) for i in self.product(self.draw()))
                for _ in range(PRODUCTS_OF_NORM)
            ]
        )
        root = math.sqrt(float(squares.mean()))
        error = float(squares.std()) / math.sqrt(PRODUCTS_OF_NORM)
        return root, error / (2 * root)

    def spectrum(self) -> tuple[float, float]:
        """Largest Ritz value; trace and effective dimension come with it."""
        runs = torch.stack([self._lanczos() for _ in range(STARTS)])
        tops = runs[:, -1]
        return float(tops.mean()), float(tops.std()) / math.sqrt(STARTS)

    def _lanczos(self) -> Tensor:
        """Ritz values after 100 steps in float64 with full orthogonalisation."""
        sizes = [p.numel() for p in self.params]
        size = sum(sizes)
        steps = min(LANCZOS_STEPS, size)
        start = torch.rand(size, generator=self.noise, dtype=torch.float64) * 2 - 1
        basis = torch.zeros(steps, size, dtype=torch.float64)
        basis[0] = start / start.norm()
        diagonal, beside = [], []
        for step in range(steps):
            parts = basis[step].float().split(sizes)
            shaped = [v.view_as(p) for v, p in zip(parts, self.params, strict=True)]
            image = torch.cat([t.flatten() for t in self.product(shaped)]).double()
            diagonal.append(image @ basis[step])
            for _ in range(2):
                image -= basis[: step + 1].T @ (basis[: step + 1] @ image)
            if step + 1 < steps:
                beside.append(image.norm())
                basis[step + 1] = image / beside[-1]
        off = torch.stack(beside)
        matrix = torch.diag(torch.stack(diagonal)) + off.diag(1) + off.diag(-1)
        return torch.linalg.eigvalsh(matrix)
