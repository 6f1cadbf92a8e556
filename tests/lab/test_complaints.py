"""Complaints of records are sentences of ours, not those of pydantic."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from steppe.errors import SettingError
from steppe_lab.complaints import reason_of, sentence_of


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(default=1, ge=1)
    rate: float = 0.1
    nesterov: bool = False
    name: str = "a"

    @field_validator("name")
    @classmethod
    def _check(cls, name: str) -> str:
        if name == "b":
            raise SettingError("b is no name; write a.")
        return name


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": "two"}, "epochs must be a whole number, got 'two'"),
        ({"epochs": 2.5}, "epochs must be a whole number, got 2.5"),
        ({"epochs": [1]}, "epochs must be a whole number, got [1]"),
        ({"epochs": 0}, "epochs must be greater than or equal to 1, got 0"),
        ({"rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"nesterov": "maybe"}, "nesterov must be true or false, got 'maybe'"),
        ({"name": 3}, "name must be a text, got 3"),
        ({"epoch": 3}, "epoch is no setting; leave it out"),
    ],
)
def test_a_complaint_names_the_rule_and_the_value(values, said):
    with pytest.raises(ValidationError) as refusal:
        Record(**values)
    assert reason_of(refusal.value) == said
    assert sentence_of(refusal.value) == f"{said}."


def test_a_complaint_of_ours_stays_as_it_is():
    with pytest.raises(ValidationError) as refusal:
        Record(name="b")
    assert sentence_of(refusal.value) == "b is no name; write a."
    assert reason_of(refusal.value) == "name: b is no name; write a"
