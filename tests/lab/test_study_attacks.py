"""Attacks that a study lets follow its trainings: settings, columns, report, store."""

from __future__ import annotations

import json
import math
import shutil

import pytest

import in_process
from attack_command import attack_command
from steppe.errors import SettingError, UnknownNameError
from steppe_lab.cli import main
from steppe_lab.reports.study.robust import robust_of
from steppe_lab.reports.study.summary import summarise
from steppe_lab.reports.study.tables import robust
from steppe_lab.runs import attacking
from steppe_lab.store.store import Store
from steppe_lab.studies.expansion import ATTACK, completed, plan_of_study
from steppe_lab.studies.robustness import robust_column, robust_columns, shown
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.stored import open_study, remember
from steppe_lab.studies.survey import survey_of
from steppe_lab.studies.table import StudyTable

SETTINGS = {
    "name": "resist",
    "base": {
        "data": "digits",
        "model": "mlp:hidden=4,depth=1",
        "train_samples": 40,
        "epochs": 1,
        "batch_size": 8,
    },
    "grid": {"optimizer": ["sgd", "sam:rho=0.1"]},
    "attack": {"attacks": ["fgsm", "fgm"], "eps": ["8/255", 0.2], "samples": 30},
}
WORST = "robust_accuracy_worst_8_of_255"


def settings(**more):
    return StudySettings.model_validate({**SETTINGS, **more})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("resist"))
    remember(store, settings())
    open_study(store).study.work(in_process.run_local)
    return store


@pytest.fixture
def store(finished, tmp_path):
    shutil.copytree(finished.root, tmp_path / "copy")
    return Store(tmp_path / "copy")


def test_a_study_file_names_attacks_as_the_command_does():
    study = settings(attack={"attacks": "fgsm,pgd:steps=3", "eps": 0.1})
    assert study.attack.epsilons == (0.1,)
    assert study.attack.attacks == ("fgsm", "pgd:steps=3")
    assert StudySettings.model_validate(study.model_dump(mode="json")) == study
    assert "attack" not in settings(attack=None).model_dump(mode="json")
    every = completed(settings(attack={"attacks": "all"})).attack.attacks
    assert "deepfool" in every
    with pytest.raises(UnknownNameError, match="did you mean 'pgd'"):
        plan_of_study(settings(attack={"attacks": ["pdg"]}))
    with pytest.raises(ValueError, match="fractions >= 0"):
        settings(attack={"eps": [-1]})


def test_a_scale_changes_attacks_or_takes_them_away():
    scales = {"more": {"attack": {"samples": 7}}, "none": {"attack": None}}
    study = settings(scales=scales)
    assert study.at_scale("more").attack.samples == 7
    assert study.at_scale("more").attack.eps == ("8/255", "0.2")
    assert study.at_scale("none").attack is None
    later = settings(attack=None, scales={"attacked": {"attack": {"samples": 7}}})
    assert later.at_scale("attacked").attack.samples == 7


def test_attacks_leave_the_ids_of_other_runs_alone():
    before = plan_of_study(settings(attack=None, measures=["path_norm"]))
    after = plan_of_study(settings(measures=["path_norm"]))
    assert list(before) == list(after)
    for run in before:
        assert before.followers(run).items() <= after.followers(run).items()
        assert set(after.followers(run)) == {"analysis", ATTACK}


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ({"eps": ["8"]}, "eps of fgsm must be at most 1"),
        ({"bounds": [0, 1]}, "inputs of digits have known bounds"),
    ],
)
def test_attacks_without_a_meaning_are_refused_before_any_training(
    attack, said, tmp_path
):
    store = Store(tmp_path)
    remember(store, settings(attack=attack))
    with pytest.raises(SettingError, match=said):
        open_study(store).study.work(in_process.run_local)
    assert not list(store.ids())


def test_the_size_of_a_study_says_its_attacks(finished):
    survey = survey_of(open_study(finished).study, settings())
    assert survey.to_dict()["budgets"] == ["8/255", "0.2"]
    assert "  attacks: fgsm, fgm within 8/255, 0.2" in survey.lines()


def test_a_table_has_the_stored_accuracies_with_their_errors(finished):
    opened = open_study(finished)
    table = opened.table()
    assert robust_columns(table.columns) == [
        "clean_accuracy",
        *(
            f"robust_accuracy_{attack}_{budget}"
            for attack in ("fgsm", "fgm", "worst")
            for budget in ("8_of_255", "0_2")
        ),
    ]
    for place, run in enumerate(table.columns["run"]):
        result = finished.result(opened.study.followers(run)[ATTACK])
        stored = {
            "clean_accuracy": result["clean_accuracy"],
            "robust_accuracy_fgm_0_2": result["attacks"]["fgm"]["robust_accuracy"][1],
            WORST: result["worst"]["robust_accuracy"][0],
        }
        for name, share in stored.items():
            assert table.columns[name][place] == share
            error = math.sqrt(share * (1 - share) / 30)
            assert table.stderr(name)[place] == pytest.approx(error)


def test_a_report_has_a_row_for_each_configuration(finished):
    given = robust(summarise(open_study(finished).table()).robust)
    assert given.heads[:4] == ("optimizer", "networks", "unchanged", "fgsm_8/255")
    assert [row[0].text for row in given.rows] == ["sam:rho=0.1", "sgd"]
    assert "±" in given.rows[0][2].text


@pytest.mark.slow
def test_a_table_in_a_file_has_the_same_report(finished, tmp_path, capsys):
    table = open_study(finished).table()
    file = tmp_path / "table.csv"
    words = ["export", "--out", file, "--store", finished.root]
    assert main(["study", *map(str, words)]) == 0
    capsys.readouterr()
    words = [
        "report",
        file,
        "--gap",
        "gap",
        "--measures",
        "parameters",
        "--factors",
        "optimizer",
        "--json",
    ]
    assert main(["study", *map(str, words)]) == 0
    record = json.loads(capsys.readouterr().out)
    cell = record["robust"]["rows"][1]["accuracies"][WORST]
    place = table.columns["optimizer"].index("sgd")
    assert cell["mean"] == pytest.approx(table.columns[WORST][place])


def test_a_row_stays_while_its_attacks_are_not_done(store):
    opened = open_study(store)
    first = next(iter(opened.plan))
    remember(store, settings(measures=["path_norm"]))
    opened = open_study(store)
    opened.study.work(in_process.run_local)
    store.reopen(opened.study.followers(first)[ATTACK])
    cells = open_study(store).table().columns
    place = cells["run"].index(first)
    assert cells[WORST][place] is None
    assert cells["path_norm"][place] is not None
    assert cells[WORST][1 - place] is not None


@pytest.mark.slow
def test_the_command_and_studies_do_no_attack_twice(
    store, monkeypatch, tmp_path, capsys
):
    done = []
    real = attacking.attacked

    def noted(attack, *args, **kwargs):
        done.append(type(attack).__name__)
        return real(attack, *args, **kwargs)

    monkeypatch.setattr(attacking, "attacked", noted)
    monkeypatch.chdir(tmp_path)
    steppe = attack_command(monkeypatch, capsys)
    opened = open_study(store)
    run = next(iter(opened.plan))
    words = (store.root / run, "--eps", "8/255", "0.2", "--samples", 30, "--json")
    keep = ("--keep", store.root)
    _, out, _ = steppe(*words, *keep, "--attacks", "fgsm,fgm,bim")
    assert done == ["BIM"]
    follower = opened.study.followers(run)[ATTACK]
    told, stored = json.loads(out)["attacks"], store.result(follower)["attacks"]
    assert {name: told[name] for name in stored} == stored
    done.clear()
    more = {**SETTINGS["attack"], "attacks": ["fgsm", "fgm", "bim"]}
    remember(store, settings(attack=more))
    open_study(store).study.work(in_process.run_local)
    assert done == ["BIM"]  # of the other network


def test_names_of_columns_are_names_of_python_and_unlike():
    budgets = ["1/2", "1.2", ".5", "1e-3", ".5/255", "5/255", "0.1234567", "0.1234568"]
    names = [robust_column("pgd:steps=3,norm=2", each) for each in budgets]
    assert len(set(names)) == len(budgets)
    assert all(name.isidentifier() for name in names)
    assert shown(names[0]) == "pgd_steps_3_norm_2_1/2"
    for one, same in ((".5/255", "0.50/255"), ("8/255", "8.0/255"), ("0.1", ".10")):
        assert robust_column("fgm", one) == robust_column("fgm", same)


def test_intervals_of_shares_end_at_zero_and_one():
    shares = {"unlike": [0.1, 0.9], "alone": [0.5]}
    table = StudyTable(
        "t",
        {
            "optimizer": [name for name, each in shares.items() for _ in each],
            "gap": [0.0, 1.0, 2.0],
            robust_column("fgm", "0.1"): [
                each for own in shares.values() for each in own
            ],
        },
        ("optimizer",),
        (),
        "gap",
    )
    alone, unlike = (row.cells[0].score.interval for row in robust_of(table).rows)
    assert (unlike.low, unlike.high, unlike.mean) == (0.0, 1.0, 0.5)
    assert math.isinf(alone.half_width)
