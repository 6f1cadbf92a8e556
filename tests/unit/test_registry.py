"""Names, facts and `name:setting=value` texts."""

import hashlib
from typing import Literal

import pytest

from steppe.errors import SettingError, UnknownNameError
from steppe.registry.registry import Choice, Registry
from steppe.registry.specs import Limit, MeasureSpec, OptimizerSpec


def registry():
    made = Registry("measure", MeasureSpec)

    @made.add("width", source="A book", units="metres", invariant_to=("turning",))
    def width(
        thing,
        *,
        steps: int = 3,
        sigma: float = 0.5,
        exact: bool = False,
        kind: Literal["a", "b"] = "a",
        limit: float | None = None,
        callback=print,
    ):
        """How wide it is.

        And more.
        """
        return thing, steps, sigma, exact, kind, limit

    @made.add("depth", source="Another book", units="metres")
    def depth(*, rho: float):
        """How deep it is."""
        return rho

    return made


FULL = {"steps": 3, "sigma": 0.5, "exact": False, "kind": "a", "limit": None}


def test_facts_are_recorded_with_the_first_line_of_the_docstring():
    entry = registry()["width"]
    assert entry.spec == MeasureSpec(
        source="A book",
        units="metres",
        invariant_to=("turning",),
        summary="How wide it is.",
    )
    assert list(entry.settings()) == list(FULL)


def test_names_are_sorted_and_found():
    made = registry()
    assert made.names() == [entry.name for entry in made] == ["depth", "width"]
    assert "width" in made
    assert "height" not in made


def test_a_name_alone_has_all_defaults():
    assert registry().parse("width") == Choice("width", FULL)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("width:steps=7", {"steps": 7}),
        ("width:sigma=1e-3", {"sigma": 0.001}),
        ("width:sigma=2", {"sigma": 2.0}),
        ("width:exact=true,kind=b", {"exact": True, "kind": "b"}),
        ("width:exact=no", {"exact": False}),
        ("width:limit=none", {"limit": None}),
        ("width:limit=4", {"limit": 4.0}),
        ("width: steps = 7 , kind = b", {"steps": 7, "kind": "b"}),
    ],
)
def test_texts_are_converted_to_the_types_of_the_signature(text, changed):
    choice = registry().parse(text)
    assert choice.settings == {**FULL, **changed}
    for key, value in changed.items():
        assert type(choice.settings[key]) is type(value)


def test_a_choice_prints_as_the_text_that_makes_it():
    made = registry()
    choice = made.parse("width:sigma=0.25,exact=yes")
    assert str(choice) == "width:steps=3,sigma=0.25,exact=true,kind=a,limit=None"
    assert made.parse(str(choice)) == choice
    assert str(Choice("plain")) == "plain"


def test_building_passes_arguments_and_settings():
    made = registry()
    assert made.build("width:steps=1", "door") == ("door", 1, 0.5, False, "a", None)
    assert made.build(made.parse("depth:rho=2")) == 2.0


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("widht", UnknownNameError, "unknown measure 'widht': did you mean 'width'"),
        ("q", UnknownNameError, "there is depth, width"),
        ("width:sgma=1", UnknownNameError, "did you mean 'sigma'"),
        ("width:callback=1", UnknownNameError, "unknown setting of width"),
        ("width:steps=1.5", SettingError, "steps must be a whole number, got '1.5'"),
        ("width:sigma=wide", SettingError, "sigma must be a number, got 'wide'"),
        ("width:sigma=nan", SettingError, "sigma must be a finite number, got nan"),
        ("width:sigma=-inf", SettingError, "sigma must be a finite number, got -inf"),
        ("width:exact=2", SettingError, "exact must be true or false"),
        ("width:kind=c", SettingError, "kind must be one of a, b, got 'c'"),
        ("width:limit=x", SettingError, "limit must be a number or none"),
        ("width:steps", SettingError, "write name:setting=value"),
        ("depth", SettingError, "depth needs the setting rho"),
    ],
)
def test_mistakes_are_one_sentence(text, error, said):
    with pytest.raises(error, match=said) as caught:
        registry().parse(text)
    assert "\n" not in str(caught.value)


def test_values_that_are_no_texts_are_checked_too():
    made = registry()
    assert made.choose("width", {"sigma": 1}).settings["sigma"] == 1.0
    for wrong in ({"steps": True}, {"steps": 1.0}, {"exact": 1}, {"sigma": None}):
        with pytest.raises(SettingError, match="must be"):
            made.choose("width", wrong)


def test_a_name_is_taken_once_and_facts_must_be_those_of_the_kind():
    made = registry()
    with pytest.raises(SettingError, match="registered twice"):
        made.add("width", source="Again", units="metres")(print)
    with pytest.raises(TypeError):
        made.add("colour", source="A book", colour="red", units="")(print)


def test_facts_of_optimizers_have_their_defaults():
    spec = OptimizerSpec(source="A paper", grad_evals=2, limits=(Limit(settings={}),))
    assert (spec.random, dict(spec.example), spec.limits[0].equals) == (
        False,
        {},
        "base",
    )


def test_code_of_the_user_is_no_part_of_the_lists(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def depth(*, rho: float = 1.0): return rho")
    monkeypatch.syspath_prepend(tmp_path)
    made = registry()
    assert made.build("mine:depth:rho=3") == 3.0
    assert "mine:depth" not in made.names()
    digest = hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest()
    assert made["mine:depth"].source_digest() == digest


def test_code_without_a_source_file_has_no_digest():
    assert registry()["math:prod"].source_digest() == ""
