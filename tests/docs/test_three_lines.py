"""The diffs of the page on three lines: their size, and what both sides train."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import steppe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "three-lines.md"
SECTIONS = re.findall(
    r"^## (.+?)$.*?^```diff\n(.*?)^```", PAGE.read_text(), re.M | re.S
)
PLAIN, LOOP, LIGHTNING, TRANSFORMERS = (diff.splitlines() for _, diff in SECTIONS)
WRITTEN = {"Plain": 2, "Lightning": 3, "Hugging": 3}  # besides imports


def side(diff: list[str], sign: str) -> str:
    """The script before ("-") or after ("+") a diff of all its lines."""
    return "\n".join(line[1:] for line in diff if line[:1] in (" ", sign, ""))


def run(script: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(script, PAGE.name, "exec"), names)
    return names


def weights(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def assert_sam(after: dict[str, Any], expected: nn.Module, before: nn.Module) -> None:
    assert torch.equal(weights(after["model"]), weights(expected))
    assert not torch.allclose(weights(after["model"]), weights(before), atol=1e-4)


@pytest.mark.parametrize(("heading", "diff"), SECTIONS, ids=[h for h, _ in SECTIONS])
def test_a_diff_has_as_many_lines_as_the_page_says(heading, diff):
    lines = diff.splitlines()
    removed = {line[1:].strip() for line in lines if line.startswith("-")}
    added = [line[1:].strip() for line in lines if line.startswith("+")]
    new = [line for line in added if line and line not in removed]  # not only indented
    imports = [line for line in new if re.match(r"(import|from) ", line)]
    assert len(new) - len(imports) == WRITTEN[heading.split()[0]]
    assert "steppe" not in side(lines, "-")


def test_plain_pytorch_trains_with_sam():
    before, after = run(side(PLAIN, "-")), run(side(PLAIN, "+"))
    setup = run(side(PLAIN, "-").partition("\nfor ")[0])
    model, loss_fn = setup["model"], setup["loss_fn"]
    opt = steppe.SAM(setup["optimizer"], rho=0.05, model=model)
    losses = []
    for x, y in setup["loader"]:
        losses.append(loss_fn(model(x), y).item())
        for _ in opt.passes():
            loss_fn(model(x), y).backward()
        opt.step()
    assert_sam(after, model, before["model"])
    assert after["losses"] == losses


def test_plain_pytorch_with_clipping_trains_with_sam():
    before, after = run(side(LOOP, "-")), run(side(LOOP, "+"))
    setup = run(side(LOOP, "-").partition("\nfor ")[0])
    model, base = setup["model"], setup["optimizer"]
    params = list(model.parameters())
    for x, y in setup["loader"]:  # SAM by hand
        kept = [p.detach().clone() for p in params]
        grads = torch.autograd.grad(setup["loss_fn"](model(x), y), params)
        norm = torch.stack([g.norm() for g in grads]).norm()
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p.add_(g, alpha=float(0.05 / norm))
        base.zero_grad()
        setup["loss_fn"](model(x), y).backward()
        with torch.no_grad():
            for p, k in zip(params, kept, strict=True):
                p.copy_(k)
        nn.utils.clip_grad_norm_(params, max_norm=1.0)
        base.step()
    torch.testing.assert_close(weights(after["model"]), weights(model))
    assert not torch.allclose(weights(model), weights(before["model"]), atol=1e-4)


@pytest.mark.filterwarnings("ignore:::lightning", "ignore:GPU available")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
def test_lightning_trains_with_sam(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that Lightning imports
        before, after = run(side(LIGHTNING, "-")), run(side(LIGHTNING, "+"))
    torch.manual_seed(0)
    X, labels = torch.randn(32, 5), torch.randint(3, (32,))
    net = nn.Linear(5, 3)
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    opt = steppe.SAM(base, rho=0.05)
    for x, y in 2 * list(zip(X.split(8), labels.split(8), strict=True)):
        for _ in opt.passes():
            cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        opt.step()
    assert_sam(after, net, before["model"])


def test_the_trainer_of_hugging_face_trains_with_sam(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before, after = run(side(TRANSFORMERS, "-")), run(side(TRANSFORMERS, "+"))
    assert_sam(after, by_hand(side(TRANSFORMERS, "-")), before["model"])


def by_hand(script: str) -> nn.Module:
    """The steps of the Trainer, with a loop of passes in the place of its one."""
    setup = run(script.partition("\noptimizer = ")[0])
    model, args, base = setup["model"], setup["args"], setup["Trainer"]
    opt = steppe.SAM(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=0.05)

    class ByHand(base):
        def training_step(self, model, inputs, num_items_in_batch=None):
            one_pass = super().training_step
            losses = [one_pass(model, dict(inputs)) for _ in opt.passes()]
            return losses[0]

    ByHand(model, args, train_dataset=setup["rows"], optimizers=(opt, None)).train()
    return model
