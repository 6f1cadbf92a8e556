"""The page needs nothing but itself, says all of it, and is well-formed for readers."""

import base64
import csv
import hashlib
import io
import itertools
import json
import re
from datetime import date
from html.parser import HTMLParser

import pytest

from comparisons import comparison, lpf, row, three_seeds
from steppe_lab.reports.comparison.page import render
from steppe_lab.reports.comparison.rows import rows, to_csv

VERSIONS = {"steppe": "0.1.0", "torch": "2.6"}
HELD = r"data:(text/csv|application/json|image/svg\+xml);charset=utf-8;base64,"
VOID = {"meta", "link", "img", "source", "br", "wbr"}


class Page(HTMLParser):
    """Elements in order, the text, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script = data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]


def page_of(made, written=None):
    command = "steppe compare sgd sam"
    return Page(render(made, command=command, versions=VERSIONS, written=written))


def usual():
    return comparison(
        *three_seeds(
            {"error": [0.1, 0.11, 0.12], "lpf": [lpf(1.2, 0.2)] * 3},
            {"error": [0.04, 0.03, 0.02], "lpf": [lpf(0.7, 0.2)] * 3},
        )
    )


CASES = {
    "usual": usual(),
    "one seed": comparison(row("sgd"), row("sam")),
    "one optimizer": comparison(row("sgd"), row("sgd", 1), augment="basic+cutout"),
    "some failed": comparison(
        row("sgd"), optimizers=("sgd", "sam"), failures=("sam, seed 0: <oom> & more",)
    ),
    "all failed": comparison(failures=("sgd, seed 0: out of memory",)),
    "diverged": comparison(row("sgd", trace={"value": None}), row("sam", trace=2.0)),
    "other measures": comparison(
        row("sgd", mine=3.0), row("sam", mine=2.0), measures=("pkg.flat:mine",)
    ),
    "eight": comparison(*(row(f"sam:rho={n}", s) for n in range(8) for s in (0, 1))),
}


@pytest.fixture(scope="module")
def pages():
    return {name: page_of(made) for name, made in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_loaded_from_elsewhere(pages, name):
    page = pages[name]
    for tag, attrs in page.elements:
        assert tag not in {"iframe", "object", "embed", "base"}
        assert tag != "script" or not attrs
        for key in ("src", "srcset", "data", "poster"):
            assert attrs.get(key, "data:").startswith("data:")
    for link in page.all("link"):
        assert link["href"] == "data:,"
    for link in page.all("a"):
        kind = HELD if "download" in link else "https://|#"
        assert re.match(kind, link["href"])


@pytest.mark.parametrize("name", ["usual", "all failed"])
def test_only_the_script_of_the_page_may_run(pages, name):
    (policy,) = (
        meta["content"]
        for meta in pages[name].all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    digest = hashlib.sha256(pages[name].script.encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'; ")


@pytest.mark.slow
def test_the_page_has_its_date_its_contents_and_its_rows(pages):
    page = page_of(usual(), written=date(2026, 2, 3))
    assert page.all("time") == [{"datetime": "2026-02-03"}]
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    inside = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert {"answer", "figures", "numbers", "runs", "settings"} <= set(inside) <= ids
    (rows_link,) = (a for a in page.all("a") if a.get("download", "").endswith("csv"))
    content = base64.b64decode(rows_link["href"].partition("base64,")[2]).decode()
    assert content == to_csv(usual())


def test_every_picture_can_be_saved_under_a_name_of_its_own(pages):
    page = pages["usual"]
    links = [a for a in page.all("a") if a.get("download", "").endswith("svg")]
    assert [link["href"] for link in links] == [i["src"] for i in page.all("img")]
    assert len({link["download"] for link in links}) == len(links)


def test_figures_come_before_tables_and_few_sentences_before_both(pages):
    tags = [tag for tag, _ in pages["usual"].elements]
    assert tags.index("figure") < tags.index("table")
    start = tags.index("main")
    answer = tags[start : tags.index("figure")]
    assert 1 <= answer.count("p") <= 3


@pytest.mark.parametrize("name", CASES)
def test_the_page_is_ordered_for_those_who_hear_it(pages, name):
    page = pages[name]
    assert not page.open
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(page.all("main")) == len(page.all("header")) == 1
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(attrs.get("scope") in {"row", "col"} for attrs in page.all("th"))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", CASES)
def test_every_picture_says_what_it_shows_and_has_a_dark_twin(pages, name):
    images, sources = pages[name].all("img"), pages[name].all("source")
    assert bool(images) == bool(CASES[name].rows)
    assert len(images) == len(sources)
    assert all(re.search(r"\d", image["alt"]) for image in images)
    assert all("dark" in source["media"] for source in sources)


def test_alternative_texts_hold_the_numbers(pages):
    alts = " ".join(image["alt"] for image in pages["usual"].all("img"))
    assert "sgd: runs 10.0 %, 11.0 %, 12.0 %; mean 11.0 ± 2.5 %" in alts
    assert "sgd: 0 in the middle, 2.8 and 3.8 at the ends." in alts
    assert "50.0 % after epoch 1, lowest 11.0 % after epoch 2" in alts


@pytest.mark.slow
def test_labels_are_shown_as_they_are():
    text = render(
        comparison(row("<b>&sgd"), row("sam")), command="a <b> & c", versions={}
    )
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;sgd" in text
    assert "a &lt;b&gt; &amp; c" in text


def test_the_page_says_how_to_make_it_again_and_from_where_numbers_come(pages):
    words = " ".join(pages["usual"].words)
    assert "steppe compare sgd sam" in words
    assert "torch 2.6" in words
    assert "arXiv:2201.08025" in words
    assert "rho = 0.1" in words
    assert "This page was made on" in words


def test_the_page_says_for_how_many_comparisons_it_allows(pages):
    words = " ".join(pages["eight"].words)
    assert "14 comparisons of flatness and 7 comparisons of test error" in words


def test_the_best_epoch_is_labelled_wherever_it_stands(pages):
    words = " ".join(pages["usual"].words)
    assert words.count("it flatters; interval over seeds alone") == 2


def test_the_page_names_augmentation_where_there_is_some(pages):
    assert "basic+cutout" in " ".join(pages["one optimizer"].words)
    assert "augmentation" not in " ".join(pages["usual"].words)


CHANGED = {
    "label_smoothing": (0.1, "label smoothing 0.1"),
    "clip_norm": (2.0, "clip norm 2.0"),
    "stop_at_loss": (0.01, "stop at loss 0.01"),
    "go_on": (True, "go on yes"),
    "start_from": ("sha256:12", "from sha256:12"),
    "over_epochs": (("l2=constant",), "over epochs l2=constant"),
    "l2": (0.5, "l2 0.5"),
}


@pytest.mark.slow
def test_the_page_and_the_rows_name_every_setting_of_training_that_was_changed():
    """Whatever setting is added: none of them has a list to be entered in."""
    settings = {name: value for name, (value, _) in CHANGED.items()}
    one = row("sgd")
    recipe = one.settings | settings
    made = comparison(one.model_copy(update={"settings": recipe}), **settings)
    words = " ".join(page_of(made).words)
    facts = words[: words.index("Answer")]
    assert [said for _, said in CHANGED.values() if said not in facts] == []
    (flat,) = rows(made)
    assert flat["over_epochs"] == "l2=constant"
    assert {n: flat[n] for n in settings if n != "over_epochs"} == {
        name: value for name, value in settings.items() if name != "over_epochs"
    }
    assert "clip norm" not in " ".join(page_of(comparison(row("sgd"))).words)


@pytest.mark.slow
def test_the_summary_has_epochs_where_a_rule_ended_a_training():
    ended = [
        row(name, seed).model_copy(
            update={"stopped": "why", "last": row().last | {"epoch": 3.0 + seed}}
        )
        for name, seed in (("sgd", 0), ("sgd", 1), ("sam", 0))
    ]
    words = " ".join(page_of(comparison(*ended)).words)
    assert "epochs a rule ended trainings 3 to 4 3 " in words
    assert "a rule ended" not in " ".join(page_of(comparison(row())).words)


def test_failures_are_on_the_page(pages):
    words = " ".join(pages["some failed"].words)
    assert "sam, seed 0: <oom> & more" in words
    words = " ".join(pages["all failed"].words)
    assert "There is nothing to compare." in words


def test_rows_are_flat_alike_and_survive_json_and_csv():
    made = comparison(
        row("sgd", lpf=lpf(1.2, 0.2)), row("sam:rho=0.1", trace=2.0), seeds=1
    )
    found = rows(made)
    assert json.loads(json.dumps(found)) == found
    assert list(found[0]) == list(found[1])
    assert found[0]["lpf_minus_loss"] == pytest.approx(1.0)
    assert found[0]["trace"] is None
    read = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert [r["label"] for r in read] == ["sgd", "sam:rho=0.1"]
    assert float(read[1]["trace"]) == 2.0
    assert to_csv(comparison()) == ""


def test_a_row_says_how_its_network_was_trained_and_judged():
    made = comparison(row("sam", lr=0.1), held_out="validation")
    (found,) = rows(made)
    said = {
        "label": "sam",
        "optimizer": "sam:rho=0.1",
        "base": "sgd:lr=0.1",
        "data": "digits",
        "model": "small_cnn:width=8",
        "epochs": 2,
        "train_samples": 1000,
        "held_out": "validation",
        "seed": 0,
        "validation_error": 0.1,
        "best_validation_error": 0.1,
        "train_error": 0.05,
    }
    assert {key: found[key] for key in said} == said
    assert not [key for key in found if "test_" in key]
