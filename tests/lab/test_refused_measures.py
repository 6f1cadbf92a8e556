"""Measures that the networks of a study refuse are named wherever it is shown."""

import json
import re

import pytest

import in_process
from steppe_lab.cli import main
from steppe_lab.store.store import Store
from steppe_lab.studies.opening import named_study
from steppe_lab.studies.stored import open_study, remember

NETWORK = """
from torch import nn

def smooth(in_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Tanh(), nn.Linear(2, 10))
"""
STUDY = {
    "name": "refusing",
    "base": {
        "data": "digits",
        "model": "own_smooth_network:smooth",
        "train_samples": 20,
        "test_fraction": 0.05,
        "epochs": 1,
        "held_out": "validation",
    },
    "grid": {"base.lr": [0.1, 0.05]},
    "measures": ["gradient_norm", "path_norm"],
    "analysis": {"samples": 20},
}
REFUSED = "path_norm: refused by 2 of 2 networks (the path norm needs a positively"
ALL = ("path_norm", "gradient_norm")


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Options of every command on the study."""
    (tmp_path / "own_smooth_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "study.yaml").write_text(json.dumps(STUDY))
    trust, out = STUDY["base"]["model"], tmp_path / "runs"
    stored = named_study(Store(out), str(tmp_path / "study.yaml"), trust=[trust])
    remember(stored.store, stored.settings)
    stored.study.work(in_process.run_local)
    return ["--trust", trust, "--out", str(out)]


def test_a_refused_measure_is_named_by_every_command(words, tmp_path, capsys):
    def said(*command):
        assert main(["study", *command]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert REFUSED in said("run", str(tmp_path / "study.yaml"), *words)
    assert REFUSED in said("status", *words)
    assert REFUSED in said("report", *words)
    (refused,) = json.loads(said("status", "--json", *words))["refused"]
    assert (refused["measure"], refused["count"], refused["among"]) == (ALL[0], 2, 2)
    page = (tmp_path / "runs/reports/refusing.html").read_text()
    assert REFUSED in page
    numbers = re.search(r'id="numbers">(.*?)</script>', page)[1]
    assert [each["name"] for each in json.loads(numbers)["measures"]] == [ALL[1]]
    table = str(tmp_path / "table.csv")
    store = ["--store", words.pop(), *words[:2]]
    assert REFUSED in said("export", "--out", table, *store)
    collected = open_study(Store(store[1]), trust=[STUDY["base"]["model"]]).table()
    assert collected.judged_on == "validation"
