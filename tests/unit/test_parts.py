"""Parts of methods as texts: `rho=cosine(0.1, 0.01)` and what else is composable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict, Unpack

import pytest

from steppe.errors import SettingError, UnknownNameError
from steppe.optimizers import OPTIMIZERS
from steppe.registry.composed import part_registries, register_reader
from steppe.registry.registry import Choice, Default, Registry
from steppe.registry.settings_text import READERS, convert
from steppe.registry.specs import Spec
from steppe.schedules import (
    SCHEDULES,
    Cosine,
    CosineIncrease,
    MultiStep,
    Proportional,
    Schedule,
)


class Door:
    """Something composable."""


DOORS: Registry[Spec] = Registry("door", Spec)


@DOORS.add("wooden", source="A book")
@dataclass(frozen=True)
class Wooden(Door):
    """A door of wood."""

    width: float
    locks: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise SettingError(f"width must be > 0, got {self.width}.")


@DOORS.add("double", source="A book")
@dataclass(frozen=True, kw_only=True)
class Double(Door):
    """Two doors."""

    left: Door
    right: Door = Wooden(1.0)


class OptimizerOptions(TypedDict, total=False):
    """Settings that every house takes."""

    door: Door | None
    rng: Annotated[Literal["fresh", "replay"], Default("fresh")]
    model: object
    seed: int


HOUSES: Registry[Spec] = Registry("house", Spec)


@HOUSES.add("hut", source="A book")
def hut(
    *,
    height: float | Schedule = 2.0,
    gate: Door | None = None,
    back: Door = Wooden(2.0),
    **options: Unpack[OptimizerOptions],
) -> dict[str, Any]:
    """A hut."""
    return {"height": height, "gate": gate, "back": back, **options}


@pytest.fixture(autouse=True)
def doors(monkeypatch):
    monkeypatch.setitem(READERS, Door, None)
    register_reader(Door, DOORS)


DEFAULTS = {"gate": None, "back": "wooden(2.0)", "rng": "fresh"}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cosine(0.1,0.01)", "cosine(0.1, 0.01)"),
        ("cosine( start = .1 , end=1e-2 )", "cosine(0.1, 0.01)"),
        ("cosine(0.1, 0.01, steps=50)", "cosine(0.1, 0.01, 50)"),
        ("cosine(0.1,0.01,50,warmup=0)", "cosine(0.1, 0.01, 50)"),
        ("cosine(0.1,0.01,warmup=5)", "cosine(0.1, 0.01, warmup=5)"),
        ("cosine_increase(0.0005,15)", "cosine_increase(0.0005, 15.0)"),
        ("proportional(0.6,0.1)", "proportional(0.6, 0.1)"),
        ("linear(1,0,warmup_start=0)", "linear(1.0, 0.0, warmup_start=0.0)"),
        ("multi_step(0.1,(50,80),0.2)", "multi_step(0.1, (50, 80), 0.2)"),
        ("multi_step(0.1,(50))", "multi_step(0.1, (50))"),
        ("constant(3)", "constant(3.0)"),
    ],
)
def test_a_schedule_has_one_canonical_text(text, canonical):
    choice = HOUSES.parse(f"hut:height={text}")
    assert choice == Choice("hut", {"height": canonical, **DEFAULTS})
    assert HOUSES.parse(str(choice)) == choice
    assert HOUSES.choose("hut", choice.settings) == choice


def test_a_number_stays_a_number():
    assert HOUSES.parse("hut:height=3").settings["height"] == 3.0


RUN = {"steps": 40, "max_lr": 0.5, "seed": 7}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("height=cosine(0.1,0.01)", Cosine(0.1, 0.01, 40)),
        ("height=cosine(0.1,0.01,20)", Cosine(0.1, 0.01, 20)),
        ("height=cosine_increase(0.5,15)", CosineIncrease(0.5, 15.0, 40)),
        ("height=proportional(0.6,0.1)", Proportional(0.6, 0.1, 0.5)),
        (
            "height=proportional(0.6,0.1,max_lr=1,min_lr=0.2)",
            Proportional(0.6, 0.1, 1.0, 0.2),
        ),
        ("height=multi_step(1,(3,4))", MultiStep(1.0, (3, 4))),
        ("gate=wooden(3)", Wooden(3.0, seed=7)),
        ("gate=wooden(3,seed=2,locks=4)", Wooden(3.0, 4, 2)),
        (
            "gate=double(left=wooden(3,seed=1))",
            Double(left=Wooden(3.0, 1, 1), right=Wooden(1.0)),
        ),
        ("door=wooden(4,1,5),gate=none", Wooden(4.0, 1, 5)),
    ],
)
def test_parts_are_made_with_what_the_run_knows(text, made):
    found = HOUSES.build(f"hut:{text}", known=RUN)
    assert found[text.partition("=")[0]] == made


def test_a_method_gets_its_defaults_as_they_are_but_for_the_seed():
    assert HOUSES.build("hut", known={})["back"] == Wooden(2.0)


def test_a_part_that_needs_the_run_says_so_without_one():
    with pytest.raises(SettingError, match=r"cosine needs steps, .*; write cosine\("):
        HOUSES.build("hut:height=cosine(0.1,0.01)")


def test_entries_of_unpacked_keywords_are_settings_left_out_unless_given():
    settings = HOUSES["hut"].settings()
    assert list(settings) == ["height", "gate", "back", "door", "rng"]
    assert "door" not in HOUSES.parse("hut").settings
    given = HOUSES.parse("hut:door=wooden(1),rng=replay").settings
    assert (given["door"], given["rng"]) == ("wooden(1.0)", "replay")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("height=cosin(1,0)", UnknownNameError, "schedule 'cosin': did you mean 'cos"),
        ("height=cosine(1)", SettingError, "cosine needs end; write cosine(start, end"),
        ("height=cosine(1,x)", SettingError, "end of cosine must be a number, got 'x'"),
        ("height=cosine(1,0,0)", SettingError, "steps must be >= 1, got 0"),
        ("height=cosine(1,0,1.5)", SettingError, "steps of cosine must be a whole"),
        ("height=cosine(1,0,1,0,0,9)", SettingError, "at most 5 arguments"),
        ("height=cosine(1,0,stps=3)", UnknownNameError, "did you mean 'steps'"),
        ("height=cosine(1,0,start=3)", SettingError, "gives start twice"),
        ("height=cosine(start=1,0)", SettingError, "with a name must come last"),
        ("height=cosine(1,0", SettingError, "parentheses must match"),
        ("height=cosine(1,0))", SettingError, "parentheses must match"),
        ("height=cosine(1,0)x", SettingError, "must end with a parenthesis"),
        ("height=cosine(nan,0)", SettingError, "start of cosine must be a finite"),
        ("height=multi_step(1,(1,x))", SettingError, "every entry of milestones"),
        ("height=high", SettingError, "a number or a schedule .constant, cosine"),
        ("gate=wooden(0)", SettingError, "width must be > 0, got 0"),
        ("gate=wooden", SettingError, "wooden needs width"),
        ("gate=iron", SettingError, "a door .double, wooden. or none, got 'iron'"),
        ("gate=cosine(1,0)", UnknownNameError, "unknown door 'cosine'"),
        ("gate=double(left=iron)", SettingError, "left of double must be a door"),
        ("dor=wooden(1)", UnknownNameError, "did you mean 'door'"),
    ],
)
def test_mistakes_are_one_sentence(text, error, said):
    with pytest.raises(error, match=said.replace("(", r"\(")) as caught:
        HOUSES.parse(f"hut:{text}")
    assert "\n" not in str(caught.value)


def test_an_object_is_told_by_its_text():
    assert HOUSES.choose("hut", {"gate": Wooden(3.0)}).settings["gate"] == "wooden(3.0)"
    with pytest.raises(SettingError, match="must be a number or a schedule"):
        convert(lambda t: 1.0, float | Schedule, "height")


def test_schedules_of_an_optimizer_are_read_from_its_signature():
    choice = OPTIMIZERS.parse("sam:rho=cosine(0.1,0.01)")
    assert choice.settings["rho"] == "cosine(0.1, 0.01)"
    assert SCHEDULES in part_registries()
