"""Several devices for the workers of a study: one each, whichever changes no result."""

from __future__ import annotations

import pytest
import torch

from steppe.errors import SettingError
from steppe_lab import work
from steppe_lab.cli import main
from steppe_lab.cli.options import kind_of, read_devices
from steppe_lab.execution.local import run_local
from steppe_lab.execution.worker_handle import free_device
from steppe_lab.store.store import Store


def results(tmp_path, **more):
    store = Store(tmp_path / "store")
    runs = [store.add({"number": number}) for number in range(6)]
    run_local(store, runs, "executor_jobs:device", **more)
    return [store.result(run) for run in runs]


@pytest.mark.slow
def test_every_worker_has_a_device_of_its_own(tmp_path):
    done = results(tmp_path, workers=4, devices=["fake:0", "fake:1"])
    of = {}
    for each in done:
        of.setdefault(each["pid"], set()).add(each["device"])
    assert all(len(devices) == 1 for devices in of.values())
    assert set.union(*of.values()) == {"fake:0", "fake:1"}
    assert len(of) == 2  # no more workers than devices


@pytest.mark.slow
def test_without_devices_runs_choose_for_themselves(tmp_path, monkeypatch):
    monkeypatch.delenv("STEPPE_DEVICE", raising=False)
    assert {each["device"] for each in results(tmp_path)} == {None}


@pytest.mark.parametrize(
    ("taken", "free"),
    [([], "a"), (["a"], "b"), (["a", "b"], "a"), (["a", "a"], "b"), (["b"], "a")],
)
def test_a_device_that_a_dead_worker_had_is_free(taken, free):
    assert free_device(["a", "b", "a"], taken) == free
    assert free_device([], taken) == ""


def test_a_worker_takes_the_gpu_that_it_is_given(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for name in ("", "cpu", "cuda:3"):
        work.take_device(name)
    assert taken == ["cuda:3"]


def test_settings_name_the_kind_of_device_alone():
    assert kind_of(read_devices("cuda:0,cuda:1")) == "cuda"
    assert kind_of(read_devices("cpu")) == "cpu"


@pytest.mark.parametrize("text", ["cuda:0,", "cpu,cuda:0", ","])
def test_devices_of_several_kinds_are_refused(text):
    with pytest.raises(SettingError, match="takes devices of one kind"):
        read_devices(text)


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_beside_others_is_not_passed_over(device, tmp_path, capsys):
    arguments = ["--devices", "cuda:0,cuda:1", "--device", device]
    assert main(["compare", "sgd", "sam", *arguments, "--out", str(tmp_path)]) == 2
    assert f"and --device {device}; leave --device out." in capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_beside_devices_are_not_passed_over(workers, tmp_path, capsys):
    arguments = ["--devices", "cpu,cpu", "--workers", str(workers)]
    assert main(["compare", "sgd", "sam", *arguments, "--out", str(tmp_path)]) == 2
    assert f"and --workers {workers}; leave --workers out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert read_devices("cpu,cpu", workers=2) == ("cpu", "cpu")


def test_a_device_that_is_not_there_is_refused_before_any_work(tmp_path, capsys):
    arguments = ["--devices", "cpu,cpu:x", "--out", str(tmp_path)]
    assert main(["compare", "sgd", "sam", *arguments]) == 2
    assert "device must be one that torch can use" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))
