"""The page needs nothing but itself, says all of it, and is well-formed for readers."""

import csv
import io
import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from comparisons import comparison, lpf, row, three_seeds
from steppe_lab.reports.comparison.page import render
from steppe_lab.reports.comparison.rows import rows, to_csv

VERSIONS = {"steppe": "0.1.0", "torch": "2.6"}
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
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]


def page_of(made):
    return Page(render(made, command="steppe compare sgd sam", versions=VERSIONS))


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
    "one optimizer": comparison(row("sgd"), row("sgd", 1)),
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
        assert tag not in {"script", "iframe", "object", "embed", "base"}
        for key in ("src", "srcset", "data", "poster"):
            assert attrs.get(key, "data:").startswith("data:")
    for link in page.all("link"):
        assert link["href"] == "data:,"
    assert all(re.match("https://|#", a["href"]) for a in page.all("a"))


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


def test_alternative_texts_hold_the_numbers():
    alts = " ".join(image["alt"] for image in page_of(usual()).all("img"))
    assert "sgd: runs 10.0 %, 11.0 %, 12.0 %; mean 11.0 ± 2.5 %" in alts
    assert "sgd: 0.20 in the middle, 3.0 and 4.0 at the ends." in alts
    assert "50.0 % after epoch 1, lowest 11.0 % after epoch 2" in alts


def test_labels_are_shown_as_they_are():
    text = render(
        comparison(row("<b>&sgd"), row("sam")), command="a <b> & c", versions={}
    )
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;sgd" in text
    assert "a &lt;b&gt; &amp; c" in text


def test_the_page_says_how_to_make_it_again_and_from_where_numbers_come():
    words = " ".join(page_of(usual()).words)
    assert "steppe compare sgd sam" in words
    assert "torch 2.6" in words
    assert "arXiv:2201.08025" in words
    assert "rho = 0.1" in words
    assert "This page was made with" in words


def test_the_page_says_for_how_many_comparisons_it_allows():
    words = " ".join(page_of(CASES["eight"]).words)
    assert "14 comparisons of flatness and 7 comparisons of test error" in words


def test_the_best_epoch_is_labelled_wherever_it_stands():
    words = " ".join(page_of(usual()).words)
    assert words.count("it flatters; interval over seeds alone") == 2


def test_failures_are_on_the_page():
    words = " ".join(page_of(CASES["some failed"]).words)
    assert "sam, seed 0: <oom> & more" in words
    words = " ".join(page_of(CASES["all failed"]).words)
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
