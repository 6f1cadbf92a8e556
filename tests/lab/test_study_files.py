"""Study files: conditions, YAML 1.2, refusals with the file, the key and the value."""

import json

import pytest

from steppe.errors import SettingError, TrustError, UnknownNameError
from steppe_lab.store.store import Store
from steppe_lab.studies.conditions import Condition
from steppe_lab.studies.files import read_study
from steppe_lab.studies.opening import named_study
from steppe_lab.studies.settings import StudySettings

VALUES = {
    "a": 2,
    "b": 0.5,
    "name": "sam:rho=0.1",
    "on": True,
    "none_of": None,
    "m.w": 8,
}
ALLOWED = [
    "a == 2 and not b > 1",
    "a * b + 1 <= 2 or on",
    "name in ['sgd', 'sam:rho=0.1']",
    "name not in ('sgd',) and a % 2 == 0",
    "1 < a <= 2 != b",
    "-a < +b",
    "m.w // 3 == 2 and m.w / 4 == a",
    "on == true and none_of == null and none_of is none",
    "(a - b) * 2 == 3",
    "false or a",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_conditions_agree_with_python(text):
    known = {**VALUES, "true": True, "false": False, "null": None, "none": None}
    known["m"] = type("M", (), {"w": 8})
    said = eval(text, {"__builtins__": {}}, known)
    assert Condition(text).holds(VALUES) is bool(said)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "a.__class__()",
        "[x for x in (1,)]",
        "lambda: 1",
        "a if b else a",
        "a ** 9999999",
        "a << 99",
        "f'{a}'",
        "a[0]",
        "{'a': 1}",
        "{1, 2}",
        "b'x' == a",
        "1j == a",
        "(a := 1)",
        "a; b",
        "a ==",
        "",
        "(" * 500 + "a",
        "a + " * 400 + "a",
        "'a'.upper == a",
    ],
)
def test_other_forms_are_refused(text):
    with pytest.raises(SettingError, match="condition"):
        Condition(text)


def test_a_condition_knows_its_names_and_says_its_values():
    condition = Condition("m.w > 4 and lr in [0.1] and x is not null")
    assert condition.names == {"m.w", "lr", "x"}
    with pytest.raises(UnknownNameError, match="did you mean 'lr'"):
        Condition("lrr > 1").check_names(["lr", "width"], "factor")
    with pytest.raises(SettingError, match="name is 'sam"):
        Condition("name < 1").holds(VALUES)
    with pytest.raises(SettingError, match="no number"):
        Condition("name * 3 == 1").holds(VALUES)
    with pytest.raises(SettingError, match="division"):
        Condition("1 / (a - 2) > 0").holds(VALUES)
    said = Condition("train_loss <= 0.01").why_not({"train_loss": 0.034567891})
    assert said == "train_loss <= 0.01 does not hold (train_loss is 0.0345679)"


def written(folder, text):
    path = folder / "study.yaml"
    path.write_text(text)
    return str(path)


def test_yaml_is_read_by_its_newer_rules(tmp_path):
    study = read_study(
        written(
            tmp_path,
            "name: s\nbase: {amp: off, augment: basic, optimizer: sgd}\n"
            "grid:\n  base.lr: [1e-3, 1E+1, .5, 5., 010, -3]\n"
            "  x: [no, true, ~, '1']\n",
        )
    )
    assert study.base == {"amp": "off", "augment": "basic", "optimizer": "sgd"}
    assert study.grid["base.lr"] == (0.001, 10.0, 0.5, 5.0, 10, -3)
    assert study.grid["x"] == ("no", True, None, "1")


REFUSED = [
    ("name: s\nname: t\n", "line 2: the key name comes twice"),
    ("name: s\ngrid:\n  a: [1]\n  a: [2]\n", "line 4: the key a comes twice"),
    ("name: s\n1: 2\n", "a key must be a text, got 1"),
    ("name: [\n", "no YAML"),
    ("name: !!python/object/apply:os.system ['true']\n", "no YAML"),
    ("", "got nothing"),
    ("- a\n", "a list"),
    ("grid: {}\n", "needs a name"),
    ("name: a/b\n", "'a/b'"),
    ("name: compare-x\n", "compare-"),
    ("name: s\ngird: {}\n", "did you mean 'grid'"),
    ("name: s\ngrid: {a: 1}\n", r"grid: a must be a list .* got 1; write \[1\]"),
    ("name: s\ngrid: {a: []}\n", "grid: a must have one level or more"),
    ("name: s\ngrid: [1]\n", "grid must be a mapping"),
    ("name: s\ngrid: {a: [1]}\nzip: {a: [1]}\n", "must name each once, got a"),
    ("name: s\nzip: {a: [1], b: [1, 2]}\n", "1 of a, 2 of b"),
    ("name: s\nseeds: 0\n", "seeds must be a number from 1"),
    ("name: s\nseeds: [1, 1]\n", "seeds must name each once, got 1"),
    ("name: s\nseeds: [-1]\n", "seeds"),
    ("name: s\nseeds: [0.5]\n", "seeds"),
    ("name: s\nwhere: [1]\n", "where must be texts"),
    ("name: s\nwhere: a(1)\n", r"'a\(1\)'"),
    ("name: s\nmeasures: {a: 1}\n", "measures must be a list"),
    ("name: s\nmeasures: [trace, [lpf, trace]]\n", "got trace again"),
    ("name: s\nanalysis: {samples: 0}\n", "analysis: samples must be greater"),
    ("name: s\nanalysis: {samples: a}\n", "samples must be a whole number, got 'a'"),
    ("name: s\nanalysis: {sampels: 10}\n", "analysis: sampels"),
    ("name: s\nanalysis: {keep: 'f(x)'}\n", "form that is not allowed"),
    ("name: s\nscales: {smoke: {grids: {}}}\n", "did you mean 'grid'"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_mistakes_in_a_file_are_one_sentence_with_its_name(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises((SettingError, UnknownNameError), match=said) as refusal:
        read_study(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(SettingError, match="no such file"):
        read_study(str(tmp_path / "none.yaml"))
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match=r"b\.yaml"):
        read_study(str(tmp_path / "b.yaml"))
    with pytest.raises(UnknownNameError, match="study"):
        read_study("no_such_study")


def test_a_file_names_code_only_where_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "my_study_code.py").write_text(
        "ran = []\n"
        "def study():\n    ran.append(1)\n    return {'name': 's', 'seeds': 2}\n"
        "class Mine:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert read_study("my_study_code:study").seeds == (0, 1)
    path = written(tmp_path, "name: s\nbase: {data: 'my_study_code:nothing'}\n")
    assert read_study(path).base["data"] == "my_study_code:nothing"
    with pytest.raises(TrustError, match="my_study_code:nothing"):
        named_study(Store(tmp_path / "runs"), path)
    with pytest.raises(SettingError, match=r"study\.yaml: .*my_study_code:nothing"):
        named_study(Store(tmp_path / "runs"), path, trust=["my_study_code:nothing"])
    with pytest.raises(SettingError, match="my_study_code:missing"):
        read_study("my_study_code:missing")
    with pytest.raises(SettingError, match="mapping"):
        read_study("my_study_code:Mine")


def test_scales_change_a_study_key_by_key():
    study = StudySettings.model_validate(
        {
            "name": "s",
            "base": {"epochs": 200, "data": "cifar10"},
            "grid": {"a": [1, 2], "b": [1, 2]},
            "zip": {"c": [1, 2], "d": [3, 4]},
            "seeds": 5,
            "analysis": {"samples": 5000, "keep": "train_loss <= 0.01"},
            "scales": {
                "smoke": {
                    "base": {"epochs": 2},
                    "grid": {"a": [1], "b": None},
                    "zip": {"c": [1], "d": [2]},
                    "seeds": 1,
                    "analysis": {"keep": []},
                }
            },
        }
    )
    smoke = study.at_scale("smoke")
    assert smoke.base == {"epochs": 2, "data": "cifar10"}
    assert (smoke.grid, smoke.zip) == ({"a": (1,)}, ({"c": (1,), "d": (2,)},))
    assert (smoke.seeds, smoke.analysis.samples, smoke.analysis.keep) == (
        (0,),
        5000,
        (),
    )
    assert (study.stored_name, smoke.stored_name) == ("s", "s@smoke")
    assert study.at_scale("") is study
    with pytest.raises(UnknownNameError, match="did you mean 'smoke'"):
        study.at_scale("smok")
    record = json.loads(json.dumps(smoke.model_dump(mode="json")))
    assert StudySettings.model_validate(record) == smoke


BOMB = "".join(
    f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"name: bomb\nbase:\n{BOMB}", "at most 2,000,000 values"),
        ("name: loop\nbase: &b\n  lr: *b\n", "must not hold itself"),
        (f"name: long\ngrid: {{lr: [{'9' * 5000}]}}\n", "this is no YAML"),
        ("name: tag\nbase: {lr: !!float x}\n", "this is no YAML"),
        ("name: tag\nbase: {lr: !!bool x}\n", "this is no YAML"),
    ],
)
def test_yaml_that_would_take_all_memory_or_has_no_value_is_refused(
    tmp_path, text, why
):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=why):
        read_study(str(path))


def test_an_alias_stands_for_its_value(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: a\nbase: {epochs: &n 3}\ngrid: {seed_of: [*n, 4]}\n")
    assert read_study(str(path)).grid["seed_of"] == (3, 4)
