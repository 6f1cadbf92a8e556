"""Graph classification: TUDataset collections and the graph network."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from steppe.errors import DataError, SettingError
from steppe_lab.cli import main
from steppe_lab.datasets import DATASETS, Selection, load
from steppe_lab.models import MODELS

pytest.importorskip("torch_geometric")

FLAT = """
import torch
from steppe_lab.datasets import Dataset, TensorSamples
def load(*, data_dir):
    rows = TensorSamples(torch.ones(9, 3), torch.arange(9) % 2)
    return Dataset(name="flat", train=rows, test=rows, classes=("a", "b"))
"""
TOY = "tudataset:name=TOY"
# Two triangles and a path of two nodes, ten times; one edge is listed twice, one is a
# loop, and neither counts.
EDGES = ((1, 2), (2, 1), (2, 3), (3, 2), (1, 3), (3, 1), (1, 2), (2, 2))
PATH = ((1, 2), (2, 1))
GRAPHS = [EDGES, PATH] * 10
NODES = [3, 2] * 10


def write(folder, **change):
    folder.mkdir(parents=True, exist_ok=True)
    firsts = [sum(NODES[:i]) for i in range(len(NODES))]
    files = {
        "A": [
            f"{a + first}, {b + first}"
            for first, edges in zip(firsts, GRAPHS, strict=True)
            for a, b in edges
        ],
        "graph_indicator": [i + 1 for i, n in enumerate(NODES) for _ in range(n)],
        "graph_labels": [1, -1] * 10,
        "node_labels": [(i % 3) + 4 for i in range(sum(NODES))],
        **change,
    }
    for kind, lines in files.items():
        (folder / f"TOY_{kind}.txt").write_text("\n".join(map(str, lines)) + "\n")


@pytest.fixture
def toy(tmp_path):
    write(tmp_path / "tudataset" / "TOY" / "raw")
    return tmp_path


def test_a_collection_is_split_once_for_good(toy):
    data = load(DATASETS.parse(TOY), toy)
    assert (len(data.train), len(data.test)) == (14, 6)
    assert data.classes == ("-1", "1")
    assert data.in_shape == (3,)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(12345))
    assert torch.equal(data.train.graphs, order[:14])
    assert torch.equal(data.train.targets, 1 - order[:14] % 2)


def test_a_batch_holds_each_edge_once_within_its_graph(toy):
    data = load(DATASETS.parse(TOY), toy)
    triangle = int((data.train.targets == 1).nonzero()[0])
    path = int((data.train.targets == 0).nonzero()[0])
    graphs, targets = data.train.batch(torch.tensor([path, triangle]))
    edges = {tuple(edge) for edge in graphs.edge_index.T.tolist()}
    assert edges == {(0, 1), (1, 0), (2, 3), (3, 2), (3, 4), (4, 3), (2, 4), (4, 2)}
    assert graphs.batch.tolist() == [0, 0, 1, 1, 1]
    assert targets.tolist() == [0, 1]
    again, same = data.train.micro_batch((graphs, targets), torch.tensor([1]))
    assert again.num_graphs == 1
    assert same.tolist() == [1]
    assert torch.equal(again.x, graphs.x[2:])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"A": ["1, 99"]}, "edges must join two of the 50 nodes"),
        ({"A": ["1, 4"]}, "an edge joins nodes of two graphs"),
        ({"A": ["1; 2"]}, "lines of numbers with commas"),
        ({"graph_indicator": [2, 1] * 25}, "does not count from 1"),
        ({"node_labels": [1, 2]}, "features for each of the 50 nodes, got 2"),
        ({"graph_labels": []}, "hold no graph|lines of numbers"),
        ({"node_labels": [0, 10**12] * 25}, "at most 10000 kinds of nodes"),
        ({"node_attributes": ["nan"] * 50}, "must hold finite numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_files_that_contradict_each_other_are_refused(toy, change, sentence):
    write(toy / "tudataset" / "TOY" / "raw", **change)
    with pytest.raises(DataError, match=sentence):
        load(DATASETS.parse(TOY), toy)


def test_collections_without_edges_are_read(toy):
    write(toy / "tudataset" / "TOY" / "raw", A=[])
    (toy / "tudataset" / "TOY" / "raw" / "TOY_A.txt").write_text("")
    data = load(DATASETS.parse(TOY), toy)
    assert data.train.batch(slice(0, 3))[0].edge_index.shape == (2, 0)


def test_graphs_cut_elsewhere_have_another_fingerprint(toy):
    split = Selection().apply(load(DATASETS.parse(TOY), toy))
    cut = split.train.first_node.clone()
    cut[1] -= 1  # the first graph gives a node to the second
    other = dataclasses.replace(split.train, first_node=cut)
    digests = {split.fingerprint, dataclasses.replace(split, train=other).fingerprint}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("model", "data"), [("mlp:hidden=4", TOY), ("gcn:hidden=4", "flat_rows:load")]
)
def test_a_network_for_other_data_is_refused(model, data, toy, monkeypatch, capsys):
    monkeypatch.syspath_prepend(toy)
    (toy / "flat_rows.py").write_text(FLAT)
    settings = ["--data", data, "--model", model, "--data-dir", str(toy)]
    assert main(["train", *settings, "--out", str(toy / "runs")]) == 2
    assert "cannot be called with inputs of" in capsys.readouterr().err


def test_a_missing_collection_says_where_it_comes_from(tmp_path):
    with pytest.raises(
        DataError, match=r"TUDataset TOY needs the file TOY_A .*/TOY\.zip"
    ):
        load(DATASETS.parse(TOY), tmp_path)
    with pytest.raises(SettingError, match="name must be that of a collection"):
        load(DATASETS.parse("tudataset:name=../x"), tmp_path)


def test_the_network_has_the_published_size_and_is_the_formula(toy):
    model = MODELS.build("gcn", (14,), 2)
    assert sum(p.numel() for p in model.parameters()) == 125_442
    data = load(DATASETS.parse(TOY), toy)
    small = MODELS.build("gcn:hidden=6", (3,), 2).double()
    graphs, _ = data.test.batch(slice(0, 1))
    x = graphs.x.double()
    adjacency = torch.zeros(len(x), len(x), dtype=torch.float64)
    adjacency[graphs.edge_index[1], graphs.edge_index[0]] = 1
    for number in range(1, 5):
        layer = small.get_submodule(f"conv{number}")
        around, own = layer.lin_rel, layer.lin_root.weight
        x = adjacency @ x @ around.weight.T + around.bias + x @ own.T
        x = x.relu() if number < 4 else x
    expected = small.lin2(small.lin1(x.mean(0, keepdim=True)))
    graphs.x = graphs.x.double()
    torch.testing.assert_close(small(graphs), expected)


@pytest.mark.slow
def test_graphs_are_trained_on_and_measured_by_the_command(toy, capsys):
    out = toy / "runs"
    places = ["--data-dir", str(toy)]
    for optimizer in ("sam", "lpf_sgd:micro_batches=3"):
        settings = ["--epochs", "1", "--batch-size", "5", "--optimizer", optimizer]
        named = ["--data", TOY, "--model", "gcn:hidden=6"]
        code = main(["train", *named, *settings, "--json", "--out", str(out), *places])
        assert code == 0
    run = json.loads(capsys.readouterr().out.splitlines()[-1])
    measures = ["top_eigenvalue", "trace"]
    assert main(["measure", run["checkpoint"], *measures, "--json", *places]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top_eigenvalue"]["value"] <= found["trace"]["value"] * 1.5
    assert main(["evaluate", run["checkpoint"], "--json", *places]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["test_error"] == run["last"]["test_error"]


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "accuracy"), [("ADAM", 0.804147465), ("SAM_rho0.01", 0.815668203)]
)
def test_published_networks_have_their_published_accuracy(
    file, accuracy, data_dir, capsys
):
    path = data_dir / "checkpoints" / "graphs" / f"model_gcn_{file}.pt"
    named = ["--model", "gcn", "--data", "tudataset:name=Mutagenicity"]
    code = main(["evaluate", str(path), *named, "--data-dir", str(data_dir), "--json"])
    assert code == 0
    scores = json.loads(capsys.readouterr().out)
    assert round(scores["test_accuracy"], 9) == accuracy
