"""The `steppe` command: what it prints, and its one-sentence mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from steppe_lab.cli import main

TINY = ["--epochs", "1", "--train-samples", "40", "--model", "small_cnn:width=1"]


@pytest.fixture
def steppe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


MISTAKES = [
    (["compar"], "did you mean 'compare'"),
    (["compare", "sgd", "gsm"], "unknown optimizer 'gsm': did you mean 'gsam'"),
    (
        ["compare", "--model", "resnet"],
        "unknown model 'resnet': did you mean 'resnet50'",
    ),
    (["compare", "--data", "mnits"], "unknown data set 'mnits': did you mean 'mnist'"),
    (["compare", "sam:roh=0.1"], "unknown setting of sam 'roh': did you mean 'rho'"),
    (["compare", "sam:rho=big"], "rho must be a number or a schedule (constant, cos"),
    (["compare", "sam:rho=cosin(1,0)"], "unknown schedule 'cosin': did you mean 'cosi"),
    (["compare", "sam:rho=cosine(1)"], "cosine needs end; write cosine(start, end"),
    (["compare", "sam:rho=cosine(0.1,-1)"], "rho must be >= 0, got -1"),
    (
        ["compare", "sam:rho=cosine(1,0,warmup=999)"],
        "warmup <= steps, got steps=480, w",
    ),
    (["compare", "sam:rho=-1"], "rho must be >= 0, got -1"),
    (["compare", "sam:rho"], "write name:setting=value"),
    (["compare", "sgd", "sgd"], "name every optimizer once"),
    (["compare", "--epochs", "0"], "epochs must be greater than or equal to 1, got 0"),
    (["compare", "--epochs", "many"], "--epochs takes a whole number, got 'many'"),
    (["compare", "--epoch", "3"], "unknown option --epoch: did you mean --epochs"),
    (["compare", "--held-out", "none"], "'test', 'validation'"),
    (
        ["compare", "--measures", "traec"],
        "unknown measure 'traec': did you mean 'trace'",
    ),
    (["compare", "--measures", "lpf:sigma=0"], "sigma must be > 0, got 0"),
    (["compare", "--model", "small_cnn:width=0"], "width must be >= 1, got 0"),
    (["compare", "--train-samples", "5000"], "5,000"),
    (["compare", "--data", "mnist"], "--data-dir"),
    (["compare", "--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
    (["compare", "--device", "warp"], "device must be one that torch can use"),
    (["compare", "--out", "file/inside"], "cannot write"),
    (["compare", "--model", "nomodule:build"], "cannot be imported"),
    (["train", "--optimizer", "sammy"], "unknown optimizer 'sammy'"),
    (["compare", "sgd", "sgd:lr=0.05"], "'sgd:lr=0.05, seed 0' have the same"),
    (["compare", "--device", "meta"], "device must be one that torch can use"),
    (["compare", "--data-seed", "4294967296"], "data_seed must be less than"),
    (["compare", "--warmup-epochs", "inf"], "warmup_epochs must be a finite number"),
    (["compare", "sam:rho=nan"], "rho must be a finite number, got nan"),
    (
        [
            "compare",
            *("--batch-size", "64", "--train-samples", "65"),
            *("--model", "small_cnn:batch_norm=true"),
        ],
        "batch norm needs 2 samples in every batch",
    ),
    (["compare", "--sweep", "rho=0.1,1"], "a sweep needs one optimizer, got 3"),
    (["compare", "sam", "--sweep", "rho=0.1"], "two or more finite values, as in rho="),
    (
        ["compare", "sam", "--sweep", "roh=0.1,1"],
        "unknown setting of sam 'roh': did yo",
    ),
    (
        ["compare", "sam", "--sweep", "rho=0.1,1", "--train-samples", "1297"],
        "needs unused training samples",
    ),
    (["compare", "sgd+em"], "unknown average 'em': did you mean 'ema'"),
    (["compare", "sgd+swad"], "hold out training samples with --held-out validation"),
    (["compare", "sgd+swa:start=481"], "takes in none of the 480 steps"),
    (["compare", "nsgd:k=0"], "k must be >= 1, got 0"),
    (["train", "--optimizer", "nsgd:k=2", "--track", "spectrum:k=3"], "give it once"),
    (["train", "--track", "spectra"], "unknown tracker 'spectra': did you mean 'spe"),
    (["train", "--track", "os:getcwd"], "unknown tracker 'os:getcwd': there is cuts"),
    (["train", "--track", "spectrum:every=often"], "as 1epoch or 100steps, got 'often"),
    (["train", "--track", "spectrum:samples=0"], "samples must be >= 1, got 0"),
    (["train", "--track", "spectrum:tol=0"], "tol must be > 0, got 0"),
    (["compare", "bsam"], "bsam needs the setting samples; write bsam:samples="),
    (["compare", "bsam:samples=1000"], "make its base torch.optim.SGD(params, lr)"),
    (["compare", "msam", "--base", "sgd:momentum=0"], "but SGD has momentum=0"),
    (["compare", "sam:perturb=norm"], "the model has no normalisation layer"),
    (["compare", "sgd", "sam:gate=evry(5)"], "unknown gate 'evry': did you mean 'eve"),
    (["compare", "--evaluate-every", "0"], "evaluate_every must be greater than or"),
    (["train", "--seed", "-1"], "seed must be greater than or equal to 0"),
    (["report", "--out", "typo"], "typo holds no comparison"),
    (["measure"], "missing"),
    (["measure", "none.safetensors"], "there is no checkpoint none.safetensors"),
    (["measure", "file"], "not a readable checkpoint"),
    (["measure", "file", "traec"], "unknown measure 'traec'"),
    (["spectrum"], "missing"),
    (["spectrum", "none.safetensors"], "there is no checkpoint none.safetensors"),
    (["spectrum", "file", "--k", "9", "--steps", "8"], "k must be at most the number"),
    (["spectrum", "file", "--sigma", "-1"], "sigma must be quadrature, pyhessian or a"),
    (["spectrum", "file", "--matrix", "hesian"], "invalid choice 'hesian'"),
    (["spectrum", "file", "--alpha", "0"], "alpha must be greater than 0, got 0"),
    (["report"], "steppe-runs holds no comparison"),
    (["list", "nothing"], "invalid choice 'nothing'"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES]
)
def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2(
    steppe, arguments, message
):
    Path("file").write_text("not a folder, not a checkpoint")
    code, out, err = steppe(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("steppe: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert [path.name for path in Path().iterdir()] == ["file"]  # nothing was begun


def test_a_store_of_a_newer_version_is_refused(steppe):
    Path("steppe-runs").mkdir()
    Path("steppe-runs/store.json").write_text('{"format": 99, "steppe": "9.0"}')
    code, _, err = steppe("compare", *TINY)
    assert code == 2
    assert "upgrade" in err


def test_train_prints_scores_and_a_checkpoint_that_measure_reads(steppe):
    code, out, _ = steppe("train", "--optimizer", "sam", *TINY, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["last"]["epoch"] == 1
    result = json.loads(Path(found["checkpoint"]).with_name("result.json").read_text())
    assert found["wrong"] == len(result["wrong"])
    code, out, _ = steppe("train", "--optimizer", "sam", *TINY)
    assert code == 0
    assert "Checkpoint: " in out
    path = found["checkpoint"]
    code, out, _ = steppe("measure", path, "lpf:samples=3", "--out", "m.json")
    assert code == 0
    assert "lpf:samples=3" in out
    assert "Over 40 loss terms of train samples." in out
    saved = json.loads(Path("m.json").read_text())
    code, out, _ = steppe("measure", path, "lpf:samples=3", "--json")
    assert json.loads(out) == saved


def test_compare_prints_table_reading_and_report(steppe):
    small = [*TINY, "--seeds", "1", "--measures", "lpf:samples=3"]
    code, out, err = steppe("compare", "sgd", "sam", *small)
    assert code == 0
    report = out.rpartition("Report: ")[2].strip()
    assert Path(report).read_text().startswith("<!doctype html>")
    assert "[4/4]" in err
    code, again, err = steppe("compare", "sgd", "sam", *small)
    assert (code, again) == (0, out)
    code, out, _ = steppe("compare", "sgd", "sam", *small, "--json")
    assert [json.loads(line)["label"] for line in out.splitlines()] == [
        "sgd",
        "sam",
    ]
    code, out, _ = steppe("report")
    assert (code, out.strip()) == (0, report)


@pytest.mark.slow
def test_a_sweep_prints_its_choice_and_is_told_again(steppe):
    small = [*TINY, "--seeds", "1", "--measures", "lpf:samples=3"]
    code, out, _ = steppe("compare", "sam", "--sweep", "rho=0.01,0.1", *small)
    assert code == 0
    assert "Chosen on 1,257 samples held out of training" in out.replace("\n", " ")
    (page,) = Path("steppe-runs/reports").glob("*.html")
    before = page.read_text()
    assert "Which rho is best?" in before
    assert steppe("report")[0] == 0
    assert page.read_text() == before


@pytest.mark.slow
def test_averages_gates_and_seldom_scores_on_the_command_line(steppe):
    texts = ["sgd", "sam:gate=after(0.5)+ema:decay=0.5"]
    small = ["--epochs", "4", "--train-samples", "64", "--model", "small_cnn:width=1"]
    small += ["--batch-size", "32", "--seeds", "1", "--measures", "lpf:samples=3"]
    small += ["--evaluate-every", "3"]
    code, out, _ = steppe("compare", *texts, *small, "--json")
    assert code == 0
    plain, averaged = map(json.loads, out.splitlines())
    assert [r["gradients_per_step"] for r in (plain, averaged)] == [1.0, 1.5]
    assert plain["average"] is None
    assert averaged["average"] == "ema:decay=0.5,warmup=true,every=1,buffers=average"
    folder = Path("steppe-runs/runs") / averaged["training"]
    history = json.loads((folder / "history.json").read_text())["epochs"]
    assert [r["epoch"] for r in history if "test_error" in r] == [3, 4]
    assert averaged["test_loss"] == history[-1]["average_test_loss"]
    assert averaged["test_loss"] != history[-1]["test_loss"]
    wrong = json.loads((folder / "result.json").read_text())["wrong"]
    assert averaged["test_error"] == len(wrong) / 500
    code, out, _ = steppe("report")
    assert (code, Path(out.strip()).suffix) == (0, ".html")


CODE = """
from steppe_lab import datasets
print("at import")

def load(*, data_dir):
    print("reading")
    return datasets.load("digits")
"""


@pytest.mark.slow
def test_what_code_of_the_user_prints_stays_out_of_the_results(tmp_path):
    (tmp_path / "printing.py").write_text(CODE)
    (tmp_path / "secrets.py").write_text("raise RuntimeError('not this one')")
    command = [Path(sys.executable).with_name("steppe"), "compare", "sgd", *TINY]
    small = ["--seeds", "1", "--measures", "lpf:samples=3", "--data", "printing:load"]
    done = subprocess.run(
        [*command, *small, "--json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["sgd"]
    assert "at import" in done.stderr
    (checkpoint,) = tmp_path.glob("steppe-runs/runs/*/model.safetensors")
    measure = [command[0], "measure", checkpoint, "lpf:samples=3", "--json"]
    done = subprocess.run(measure, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "name it with --trust printing:load" in done.stderr
    assert "at import" not in done.stderr
    measure += ["--trust", "printing:load"]
    done = subprocess.run(measure, cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(done.stdout)


@pytest.mark.slow
def test_compare_with_failed_runs_prints_the_rest_and_exits_with_1(steppe):
    small = [*TINY, "--seeds", "1", "--measures", "lpf:samples=3", "--json"]
    code, out, err = steppe("compare", "sgd", "sgd:lr=1e30", *small)
    assert code == 1
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["sgd"]
    assert "failed: sgd:lr=1e30, seed 0: the" in err
    assert steppe("compare", "sgd:lr=1e30", *small)[:2] == (1, "")
    code, _, err = steppe("report")
    assert code == 2
    assert "none of the 1 runs" in err
    assert "run `steppe compare sgd:lr=1e30 --train-samples 40 --epochs 1" in err
    assert steppe("train", "--optimizer", "sgd:lr=1e30", *TINY)[0] == 2


SMOOTH = """
from torch import nn

def build(in_shape, classes):
    first, last = nn.Linear(64, 8), nn.Linear(8, classes)
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), last)
"""


@pytest.mark.slow
def test_a_measure_that_a_network_does_not_allow_leaves_the_others(steppe):
    Path("smooth.py").write_text(SMOOTH)
    measures = ["minimum_sharpness", "lpf:samples=3"]
    small = [*TINY[:4], "--model", "smooth:build", "--seeds", "1"]
    code, out, _ = steppe("compare", "sgd", *small, "--measures", *measures, "--json")
    (row,) = map(json.loads, out.splitlines())
    assert code == 0
    assert row["lpf"] > 0
    assert row["minimum_sharpness"] is None
    assert "positively homogeneous network" in row["minimum_sharpness_refusal"]
    (checkpoint,) = Path().glob("steppe-runs/runs/*/model.safetensors")
    asked = ["measure", str(checkpoint), *measures, "--trust", "smooth:build"]
    code, out, err = steppe(*asked, "--out", "m.json")
    assert code == 1
    assert "lpf:samples=3" in out
    assert "minimum_sharpness was not measured: minimum sharpness needs" in err
    assert json.loads(Path("m.json").read_text())["minimum_sharpness"]["value"] is None


@pytest.mark.slow
def test_a_second_call_reads_no_data_and_is_quick(steppe):
    small = [*TINY, "--seeds", "1", "--measures", "lpf:samples=3", "--json"]
    assert steppe("compare", "sgd", *small)[0] == 0
    code = (
        "import sys, numpy, steppe_lab.cli as cli; numpy.loadtxt = None; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", "sgd", *small],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_list_shows_every_registered_name_with_its_settings(steppe):
    code, out, _ = steppe("list", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["optimizer"]["sam"]["settings"]["rho"] == 0.05
    assert {"digits", "mnist", "fashion_mnist", "cifar10"} <= set(found["data set"])
    cosine = found["schedule"]["cosine"]
    assert cosine["settings"]["warmup"] == 0
    assert cosine["settings"]["start"] is None
    assert cosine["source"]
    code, out, _ = steppe("list", "optimizers")
    assert code == 0
    assert "lpf_sgd" in out
    lpf = found["measure"]["lpf"]
    assert (lpf["family"], lpf["cost"]["forwards"]) == ("perturbed", 101)
    assert "layer_rescaling" in lpf["invariant_to"]
    code, out, _ = steppe("list", "measures")
    assert code == 0
    assert "lpf 101 Mean loss under Gaussian noise" in " ".join(out.split())
    assert out.count("\n") < 150
    code, out, _ = steppe("list", "parts")
    assert code == 0
    assert "cosine_increase" in out
    assert {"every", "after"} <= set(found["gate"])
    assert {"l2", "adaptive"} <= set(found["geometry"])
    assert {"ema", "swa"} <= set(found["average"])
    assert {"sgd", "adam"} <= set(found["base optimizer"])
    code, out, _ = steppe("list", "averages")
    assert code == 0
    assert "lawa" in out


def test_list_shows_all_facts_of_names_and_families(steppe):
    code, out, _ = steppe("list", "measures", "lpf", "tails")
    assert code == 0
    assert "cost: 101 forward passes" in out
    assert "larger is sharper" in out
    assert "heavy_tails" in out
    assert "top_eigenvalue" not in out
    _, out, _ = steppe("list", "models", "mlp", "--json")
    assert list(json.loads(out)["model"]) == ["mlp"]
    code, _, err = steppe("list", "measures", "lpff")
    assert code == 2
    assert "did you mean 'lpf'" in err


def test_help_and_version(steppe):
    assert steppe("--help")[0] == 0
    assert steppe("--version")[1].startswith("steppe ")
    assert steppe()[0] == 2


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_exits_with_130(tmp_path):
    command = [sys.executable, "-m", "steppe_lab.cli", "compare", "--epochs", "2000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        # A shell lets what it runs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        while not list(tmp_path.glob("steppe-runs/runs/*/lease.json")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("steppe-runs/runs/*/lease.json"))


@pytest.mark.parametrize(
    ("verb", "said"),
    [("train", "the same command goes on there"), ("spectrum", "begins anew")],
)
def test_a_stopped_command_says_whether_it_can_go_on(steppe, monkeypatch, verb, said):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("steppe_lab.cli._dispatch", stop)
    code, _, err = steppe(verb)
    assert (code, said in err) == (130, True)
