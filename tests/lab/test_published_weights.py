"""Weights that other projects published, in the networks of this one.

The files lie beside the data sets, in a folder `checkpoints`.
"""

from __future__ import annotations

import json
import os

import pytest
import torch
from torch.nn import functional as F

from steppe_lab.cli import main
from steppe_lab.datasets import load
from steppe_lab.models import MODELS
from steppe_lab.training.weights import load_into, read_states

pytestmark = pytest.mark.real_data

FILES = ["SGD.pt", "SAM_SGD.pt"]
TEST_SET = 10_000  # images of Fashion-MNIST that the project scored


@pytest.fixture
def checkpoints(data_dir):
    folder = data_dir / "checkpoints"
    if not folder.is_dir():
        required = os.environ.get("STEPPE_REQUIRE_DATA") == "1"
        (pytest.fail if required else pytest.skip)(f"no published weights in {folder}")
    return folder


@pytest.fixture
def clothes(data_dir):
    """The first 4,000 test images, with pixels between 0 and 1, and their classes."""
    test = load("fashion_mnist", data_dir).test
    return test.stored[:4000] / 255, test.targets[:4000]


def network(text, path, in_shape):
    model = MODELS.build(text, in_shape, 10).eval()
    load_into(model, read_states(path), path)
    return model


def scores(model, inputs):
    with torch.no_grad():
        return torch.cat([model(part) for part in inputs.split(500)])


def accuracy(outputs, targets):
    return (outputs.argmax(1) == targets).double().mean().item()


def by_hand(state, x):
    """Scores of SimpleBatch, layer by layer from the names in the file."""
    for convolution, norm in ((0, 2), (3, 5), (7, 9), (10, 12)):
        x = F.conv2d(x, *weights(state, f"convs.{convolution}")).relu()
        mean, variance = (
            state[f"convs.{norm}.running_{kind}"].view(-1, 1, 1)
            for kind in ("mean", "var")
        )
        scale, shift = (w.view(-1, 1, 1) for w in weights(state, f"convs.{norm}"))
        x = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
        if norm in (5, 12):
            x = F.max_pool2d(x, 2)
    hidden = F.linear(x.flatten(1), *weights(state, "linears.0")).relu()
    return F.linear(hidden, *weights(state, "linears.2"))


def weights(state, layer):
    return state[f"{layer}.weight"], state[f"{layer}.bias"]


@pytest.mark.parametrize("file", FILES)
def test_scores_of_simple_batch_are_those_of_its_layers_by_hand(
    file, checkpoints, clothes
):
    path = checkpoints / "simple_batch" / file
    inputs = clothes[0][:100]
    plain = scores(network("simple_batch", path, (1, 28, 28)), inputs)
    expected = by_hand(read_states(path)["state_dict"], inputs)
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-3)


ACCURACIES = [  # file, images, accuracy of the plain scores
    ("SGD.pt", 1000, 0.842),
    ("SAM_SGD.pt", 1000, 0.898),
    pytest.param("SGD.pt", 4000, 0.825, marks=pytest.mark.slow),
    pytest.param("SAM_SGD.pt", 4000, 0.8935, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("file", "images", "share"), ACCURACIES)
def test_the_published_protocol_gives_the_accuracy_that_the_file_records(
    file, images, share, checkpoints, clothes
):
    path = checkpoints / "simple_batch" / file
    content = torch.load(path, map_location="cpu", weights_only=True)
    recorded = content["validation_accuracy"][-1] / 100  # in batches of 1,000
    inputs, targets = (part[:images] for part in clothes)
    plain = scores(network("simple_batch", path, (1, 28, 28)), inputs)
    assert accuracy(plain, targets) == pytest.approx(share, abs=0.001)
    published = {
        rows: torch.cat([part.log_softmax(0) for part in plain.split(rows)])
        for rows in (1000, 10)
    }
    error = (recorded * (1 - recorded) * (1 / images - 1 / TEST_SET)) ** 0.5
    assert abs(accuracy(published[1000], targets) - recorded) < 3 * error
    # The scores of a sample depend on the others of its batch.
    assert accuracy(published[10], targets) < accuracy(plain, targets) - 0.05
    with torch.no_grad():
        model = network("simple_batch:variant=published", path, (1, 28, 28))
        outputs = model(inputs[:10])
    torch.testing.assert_close(outputs, published[10][:10], rtol=1e-4, atol=1e-3)


FORMS = ["depth=10,width=2", "depth=4,width=2,form=davda54"]


@pytest.fixture
def wide(checkpoints):
    return checkpoints / "wide_resnet" / "model_cifar_SAM_rho0.3.pt"


@pytest.mark.slow
def test_a_wide_network_of_another_project_loads_in_both_forms(wide, data_dir):
    test = load("cifar10", data_dir).test
    inputs, targets = test.inputs[:300], test.targets[:300]
    models = [network(f"wide_resnet:{form}", wide, (3, 32, 32)) for form in FORMS]
    assert sum(p.numel() for p in models[0].parameters()) == 303_706
    one, two = (scores(model, inputs) for model in models)
    assert torch.equal(one, two)  # with one block in a stage they are one network
    check_accuracy(accuracy(one, targets), wide, 300)


def check_accuracy(measured, path, samples):
    """Compare with the accuracy in the file, as measured on so many samples."""
    recorded = torch.load(path, map_location="cpu", weights_only=True)["acc"]
    error = (recorded * (1 - recorded) / samples) ** 0.5
    assert abs(measured - recorded) < 3 * error


SCORED = [  # file, settings of the network, share of the 4,000 test images
    ("SGD.pt", "variant=plain", 0.82475),
    ("SAM_SGD.pt", "variant=plain", 0.8935),
    ("SGD.pt", "variant=published", 0.91175),
    ("SAM_SGD.pt", "variant=published", 0.92425),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "settings", "share"), SCORED)
def test_the_command_scores_simple_batch_by_its_scores_and_by_the_published_protocol(
    file, settings, share, checkpoints, data_dir, capsys
):
    path, data = checkpoints / "simple_batch" / file, "fashion_mnist:standardise=unit"
    words = ["evaluate", str(path), "--model", f"simple_batch:{settings}", "--json"]
    assert main([*words, "--data", data, "--data-dir", str(data_dir)]) == 0
    rows = json.loads(capsys.readouterr().out)
    if rows["test_samples"] != 4000:
        pytest.skip("known for the first 4,000 test images")
    # Rounding may decide on an image or two elsewhere.
    assert rows["test_accuracy"] == pytest.approx(share, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_command_evaluates_a_wide_network_of_another_project(
    form, wide, data_dir, capsys
):
    words = ["evaluate", str(wide), "--model", f"wide_resnet:{form}", "--json"]
    assert main([*words, "--data", "cifar10", "--data-dir", str(data_dir)]) == 0
    rows = json.loads(capsys.readouterr().out)
    check_accuracy(rows["test_accuracy"], wide, rows["test_samples"])
    if rows["test_samples"] == 1000:
        assert rows["test_accuracy"] == pytest.approx(0.787, abs=2e-3)
