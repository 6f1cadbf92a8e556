"""Test sets in SGML, as statmt.org publishes them."""

from __future__ import annotations

import gzip

import pytest

from parallel_text import pairs, write_pairs
from steppe.errors import DataError
from steppe_lab.cli import main
from steppe_lab.datasets import load
from steppe_lab.datasets.formats.sgm import segments_of

HEAD = '<srcset setid="newstest2014" srclang="any">\n<doc sysid="ref" docid="a.de">\n'


def written(segments):
    lines = [f'<seg id="{n}">{text}</seg>' for n, text in enumerate(segments, 1)]
    return (HEAD + "<p>\n" + "\n".join(lines) + "\n</p>\n</doc>\n</srcset>\n").encode()


@pytest.mark.parametrize("packed", [bytes, lambda raw: gzip.compress(raw, mtime=0)])
def test_segments_are_lines_with_their_characters(packed, tmp_path):
    path = tmp_path / "test.de.sgm"
    texts = ["Übung  &amp; &lt;b&gt; ", " &quot;a&apos;s&quot;", "zwei\nZeilen", ""]
    path.write_bytes(packed(written([*texts, "&amp;lt; &nbsp; <hl>x</hl>"])))
    expected = ["Übung & <b>", '"a\'s"', "zwei Zeilen", "", "&lt; &nbsp; x"]
    assert segments_of(path, "get it again") == expected


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]>' + written(["&b;"]), "declare no entities"),
        (b"<doc></doc>", "must hold segments"),
        (HEAD.encode() + b"<seg id=1>one\n<seg id=2>two</seg>", "that of line 3"),
        (written(["one"])[:-30].replace(b"</seg>", b""), "end each segment"),
        (written(["a" * 2000]), "more than 1,000 bytes"),
        (written(["\xff"]).replace("\xff".encode(), b"\xff"), "in UTF-8, and line 4"),
        (gzip.compress(written(["one"]))[:-9], "damaged or truncated gzip"),
    ],
)
def test_files_that_are_no_test_set_are_one_sentence(raw, sentence, tmp_path):
    (tmp_path / "test.sgm").write_bytes(raw)
    with pytest.raises(DataError, match=sentence) as caught:
        segments_of(tmp_path / "test.sgm", "get it again", most=1000)
    assert str(caught.value).endswith("; get it again.")


@pytest.mark.parametrize("ends", [("src", "ref"), ("ref", "src")])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_wmt14_is_judged_on_the_files_of_statmt(ends, ending, tmp_path):
    folder = tmp_path / "wmt14"
    for name in ("train", "newstest2013"):
        write_pairs(folder, name, pairs(60, 1))
    test = pairs(7, 2)
    for language, end in zip(("de", "en"), ends, strict=True):
        raw = written(test[language])
        path = folder / f"newstest2014-deen-{end}.{language}.sgm{ending}"
        path.write_bytes(gzip.compress(raw) if ending else raw)
    sized = ["--vocabulary", "60", "--data-dir", str(tmp_path)]
    assert main(["prepare", "wmt14", *sized]) == 0
    data = load("wmt14", tmp_path)
    assert data.test.sources == tuple(test["de"])
    assert data.test.references == tuple(test["en"])


def test_files_of_another_number_of_segments_are_refused(tmp_path, capsys):
    folder = tmp_path / "wmt14"
    for name in ("train", "newstest2013"):
        write_pairs(folder, name, pairs(60, 1))
    for language, count in (("de", 3), ("en", 2)):
        path = folder / f"newstest2014-deen-src.{language}.sgm"
        path.write_bytes(written(pairs(count, 2)[language]))
    words = ["prepare", "wmt14", "--vocabulary", "60", "--data-dir", str(tmp_path)]
    assert main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "newstest2014.de and newstest2014.en in" in said
    assert "got 3 and 2 lines" in said
