"""Downloads from a server that breaks off, lies or is not there; hostile archives."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import socket
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from file_server import serving
from steppe.errors import DataError, SettingError
from steppe_lab.cli import main
from steppe_lab.datasets import DATASETS, load
from steppe_lab.datasets.downloads.archives import unpack
from steppe_lab.datasets.downloads.download import download
from steppe_lab.datasets.downloads.transfer import fetch
from steppe_lab.datasets.formats.published import Download

SIZE = 300_000
CONTENT = np.random.default_rng(0).bytes(SIZE)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def silent(*_):
    pass


def fetched(server, folder, digest=f"sha256:{SHA256}", size=SIZE):
    path = folder / "file.gz"
    return fetch(Download(server.url("file.gz"), size, digest), path, silent)


def refusal(server, folder, **known):
    with pytest.raises(DataError) as caught:
        fetched(server, folder, **known)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert not (folder / "file.gz").exists()
    return text


# ---- one file -----------------------------------------------------------------------


@pytest.mark.parametrize("digest", [f"sha256:{SHA256}", f"md5:{MD5}", None])
def test_a_file_gets_its_name_when_it_is_complete(digest, tmp_path):
    with serving({"file.gz": CONTENT}) as server:
        assert fetched(server, tmp_path, digest) == SHA256
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_progress_ends_with_all_bytes(tmp_path):
    told = []
    with serving({"file.gz": CONTENT}, "cut 100000") as server:
        known = Download(server.url("file.gz"), len(CONTENT), f"sha256:{SHA256}")
        fetch(known, tmp_path / "file.gz", lambda *each: told.append(each))
    assert told == sorted(told)
    assert told[-1] == (300_000, 300_000)


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path):
    faults = ["cut 70000", "cut 50000", ""]
    with serving({"file.gz": CONTENT}, *faults) as server:
        fetched(server, tmp_path)
    assert server.ranges == ["", "bytes=70000-", "bytes=120000-"]
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_connections_that_bring_nothing_end_and_the_next_command_goes_on(tmp_path):
    faults = ["cut 70000", "cut 0", "cut 0", "cut 0"]
    with serving({"file.gz": CONTENT}, *faults) as server:
        text = refusal(server, tmp_path)
        assert "broke off after 70,000 bytes" in text
        assert "run the command again to go on" in text
        assert (tmp_path / "file.gz.part").read_bytes() == CONTENT[:70_000]
        fetched(server, tmp_path)
    assert server.ranges[-1] == "bytes=70000-"
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["no ranges", "wrong range", "no length"])
def test_a_server_without_ranges_sends_all_of_it_again(fault, tmp_path):
    with serving({"file.gz": CONTENT}, "cut 70000", fault, "") as server:
        fetched(server, tmp_path)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_a_file_of_unknown_digest_is_never_put_together(tmp_path):
    (tmp_path / "file.gz.part").write_bytes(b"another file")
    with serving({"file.gz": CONTENT}) as server:
        assert fetched(server, tmp_path, None, None) == SHA256
    assert server.ranges == [""]


def test_a_complete_part_needs_no_connection(tmp_path):
    (tmp_path / "file.gz.part").write_bytes(CONTENT)
    with serving({"file.gz": CONTENT}) as server:
        fetched(server, tmp_path)
    assert server.ranges == []


def test_a_part_longer_than_the_file_on_the_server_is_dropped(tmp_path):
    (tmp_path / "file.gz.part").write_bytes(b"0" * 400_000)
    with serving({"file.gz": CONTENT}) as server:
        fetched(server, tmp_path, size=None)
    assert server.ranges == ["bytes=400000-", ""]


def test_a_part_of_another_file_is_seen_by_the_digest_and_removed(tmp_path):
    (tmp_path / "file.gz.part").write_bytes(b"0" * 1000)
    with serving({"file.gz": CONTENT}) as server:
        assert "is not the published file: its sha256 is" in refusal(server, tmp_path)
        assert list(tmp_path.iterdir()) == []
        fetched(server, tmp_path)


def test_a_wrong_digest_is_refused_and_nothing_stays(tmp_path):
    with serving({"file.gz": CONTENT[::-1]}) as server:
        text = refusal(server, tmp_path)
    assert SHA256 in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", [b"<html>log in</html>", CONTENT + b"0"])
def test_a_file_of_another_size_is_refused_before_it_comes(page, tmp_path):
    with serving({"file.gz": page}) as server:
        text = refusal(server, tmp_path)
    assert f"it has {len(page):,} bytes, not the published 300,000" in text


def test_an_answer_without_end_is_cut_off(tmp_path):
    with serving({"file.gz": CONTENT}, "endless") as server:
        assert "more than 300,000 bytes" in refusal(server, tmp_path)
    assert (tmp_path / "file.gz.part").stat().st_size <= 300_000


@pytest.mark.parametrize("status", ["404", "403", "500", "503"])
def test_a_refusal_of_the_server_is_one_sentence(status, tmp_path):
    with serving({"file.gz": CONTENT}, status) as server:
        assert f"the server answered {status} " in refusal(server, tmp_path)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1:9/x"])
def test_a_redirection_to_another_protocol_is_refused(place, tmp_path):
    with serving({"file.gz": CONTENT}, place) as server:
        text = refusal(server, tmp_path)
    assert "is not to be had" in text or "cannot be reached" in text


def test_a_file_on_this_machine_is_no_download(tmp_path):
    (tmp_path / "secret").write_text("secret")
    url = f"file://{tmp_path}/secret"
    with pytest.raises(DataError, match="by http or https"):
        fetch(Download(url), tmp_path / "copy", silent)


def test_no_network_is_one_sentence(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.gz"
        with pytest.raises(DataError, match=r"127.0.0.1 cannot be reached \(.*refused"):
            fetch(Download(url), tmp_path / "file.gz", silent)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_one_sentence(tmp_path):
    (tmp_path / "file.gz.part").symlink_to("/dev/full")
    with serving({"file.gz": CONTENT}) as server:
        text = refusal(server, tmp_path)
    assert "No space left on device" in text
    assert "make room and run the command again" in text


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    with serving({"file.gz": CONTENT}) as server:
        assert "cannot be written" in refusal(server, tmp_path / "nowhere")


# ---- archives -----------------------------------------------------------------------


def tar(*entries, mode="w:gz"):
    """A tar of (name, content) files, or of entries with a type of their own."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size, info.mode = len(entry[1]), 0o4777
            archive.addfile(info, io.BytesIO(entry[1]))
    return packed.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(*entries):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, *mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode[0] if mode else 0o100644) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def unpacked(raw, tmp_path):
    archive = tmp_path / "a.archive"
    archive.write_bytes(raw)
    (tmp_path / "to").mkdir(exist_ok=True)
    return unpack(archive, tmp_path / "to", "top")


@pytest.mark.parametrize(
    "raw",
    [
        tar(special("top", tarfile.DIRTYPE), ("top/a", b"one"), ("top/b/c", b"two")),
        tar(("top/a", b"one"), ("top/b/c", b"two"), mode="w:xz"),
        tar(("top/a", b"one"), ("top/b/c", b"two"), mode="w"),
        zipped(("top/", ""), ("top/a", "one"), ("top/b/c", "two")),
    ],
)
def test_files_come_out_of_an_archive_without_its_rights(raw, tmp_path):
    folder = unpacked(raw, tmp_path)
    assert folder == tmp_path / "to" / "top"
    assert (folder / "a").read_bytes() == b"one"
    assert (folder / "b" / "c").read_bytes() == b"two"
    assert not (folder / "a").stat().st_mode & 0o111
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["top"]


LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
HOSTILE = {
    "a way up": (tar(("top/../../evil", b"x")), "lies outside"),
    "a way up at once": (tar(("../evil", b"x")), "lies outside"),
    "a place of its own": (tar(("/tmp/evil", b"x")), "lies outside"),
    "another drive": (tar(("top/C:evil", b"x")), "lies outside"),
    "another folder": (tar(("top/a", b"x"), ("evil", b"x")), "not in the folder top"),
    "a link": (tar(special("top/a", LINK, "/etc")), "is a link or device"),
    "a link and a file through it": (
        tar(special("top/a", LINK, "../.."), ("top/a/evil", b"x")),
        "is a link or device",
    ),
    "a hard link": (tar(special("top/a", HARD, "top/b")), "is a link or device"),
    "a device": (tar(special("top/a", tarfile.CHRTYPE)), "is a link or device"),
    "a pipe": (tar(special("top/a", tarfile.FIFOTYPE)), "is a link or device"),
    "one name twice": (tar(("top/a", b"x"), ("top/a", b"y")), "File exists"),
    "a cut archive": (tar(("top/a", CONTENT))[:-1000], "damaged archive"),
    "a page": (b"<html>not found</html>" * 99, "damaged archive"),
    "nothing": (b"", "damaged archive"),
    "no folder": (tar(), "must hold a folder top"),
    "a zip with a way up": (zipped(("top/../../evil", "x")), "lies outside"),
    "a zip with another way up": (zipped(("top\\..\\evil", "x")), "lies outside"),
    "a zip with a link": (zipped(("top/a", "/etc", 0o120777)), "is a link or device"),
    "a cut zip": (zipped(("top/a", CONTENT))[:-1000], "damaged archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_leaves_nothing(case, tmp_path):
    raw, expected = HOSTILE[case]
    with pytest.raises(DataError) as caught:
        unpacked(raw, tmp_path)
    text = str(caught.value)
    assert expected in text
    assert text.endswith(".")
    assert "\n" not in text
    assert list((tmp_path / "to").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.archive", "to"]


def test_an_archive_of_too_many_bytes_is_refused_before_they_are_written(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("steppe_lab.datasets.downloads.archives.MOST_BYTES", 10**6)
    zeros = zipped(("top/a", b"\0" * 10**7))
    assert len(zeros) < 20_000
    with pytest.raises(DataError, match=r"more than .* bytes"):
        unpacked(zeros, tmp_path)
    assert list((tmp_path / "to").iterdir()) == []


def test_a_folder_that_exists_is_not_written_to(tmp_path):
    there = tmp_path / "to" / "top"
    there.mkdir(parents=True)
    (there / "mine").write_text("mine")
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpacked(tar(("top/a", b"x")), tmp_path)
    assert [path.name for path in there.iterdir()] == ["mine"]


# ---- data sets ----------------------------------------------------------------------


def pickled(count):
    pixels = np.zeros((count, 3072), np.uint8)
    return pickle.dumps({"data": pixels, "labels": list(range(count))}, 2)


ARCHIVE = tar(
    ("cifar-10-batches-py/data_batch_1", pickled(4)),
    ("cifar-10-batches-py/test_batch", pickled(2)),
)


@pytest.fixture
def published_here(monkeypatch):
    """Let the files of a data set come from a server on this machine."""

    def change(name, downloads):
        entry = DATASETS[name]
        published = replace(entry.spec.published, downloads=downloads)
        changed = replace(entry, spec=replace(entry.spec, published=published))
        monkeypatch.setitem(DATASETS._entries, name, changed)

    return change


def test_the_command_fetches_unpacks_and_the_data_set_is_read(
    published_here, tmp_path, capsys
):
    digest = f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}"
    words = ["download", "cifar10", "--data-dir", str(tmp_path / "data")]
    with serving({"cifar.tar.gz": ARCHIVE}, "cut 200") as server:
        url = server.url("cifar.tar.gz")
        published_here("cifar10", (Download(url, len(ARCHIVE), digest),))
        assert main([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["fetched"]
    assert (row["sha256"], row["checked"]) == (digest.partition(":")[2], True)
    assert server.ranges == ["", "bytes=200-"]
    assert load("cifar10", tmp_path / "data").train.targets.tolist() == [0, 1, 2, 3]
    inside = [path.name for path in (tmp_path / "data" / "cifar10").iterdir()]
    assert inside == ["cifar-10-batches-py"]
    assert main(words) == 0  # without a server
    assert "was there" in capsys.readouterr().out


def test_single_files_are_fetched_where_they_lack_and_never_written_over(
    published_here, tmp_path
):
    names = ["a.gz", "b.gz"]
    with serving(dict.fromkeys(names, CONTENT)) as server:
        known = [Download(server.url(n), None, f"sha256:{SHA256}") for n in names]
        published_here("mnist", tuple(known))
        (tmp_path / "mnist").mkdir()
        (tmp_path / "mnist" / "a.gz").write_bytes(CONTENT)
        one, two = download("mnist", tmp_path, lambda _: silent)
        assert (one.sha256, two.sha256) == (None, SHA256)
        (tmp_path / "mnist" / "a.gz").write_bytes(b"mine")
        with pytest.raises(DataError, match=r"a\.gz is not the file .* move it away"):
            download("mnist", tmp_path, lambda _: silent)
    assert (tmp_path / "mnist" / "a.gz").read_bytes() == b"mine"
    assert len(server.ranges) == 1


@pytest.mark.parametrize("known", [True, False])
def test_an_archive_that_was_there_is_unpacked_and_kept(
    known, published_here, tmp_path
):
    digest = f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}" if known else None
    published_here("cifar10", (Download("http://[::1]:9/c.tar.gz", None, digest),))
    mine = tmp_path / "cifar10" / "c.tar.gz"
    mine.parent.mkdir()
    mine.write_bytes(ARCHIVE)
    (one,) = download("cifar10", tmp_path, lambda _: silent)
    assert (one.sha256, one.checked) == (None, known)
    assert mine.read_bytes() == ARCHIVE
    assert len(load("cifar10", tmp_path).test) == 2


@pytest.mark.parametrize("folder", [True, False])
def test_another_file_in_the_place_of_an_archive_is_not_written_over(
    folder, published_here, tmp_path
):
    published_here("cifar10", (Download("http://[::1]:9/c.tar.gz", 9, "md5:0"),))
    mine = tmp_path / "cifar10" / "c.tar.gz"
    mine.parent.mkdir()
    mine.mkdir() if folder else mine.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"c\.tar\.gz is not the file .* move it away"):
        download("cifar10", tmp_path, lambda _: silent)
    assert mine.is_dir() if folder else mine.read_bytes() == b"mine"


def test_settings_name_the_files_of_a_collection(published_here, tmp_path):
    raw = zipped(
        ("MUTAG/MUTAG_A.txt", "1, 2\n2, 1\n"),
        ("MUTAG/MUTAG_graph_indicator.txt", "1\n1\n2\n3\n4\n"),
        ("MUTAG/MUTAG_graph_labels.txt", "1\n-1\n1\n-1\n"),
        ("MUTAG/MUTAG_node_labels.txt", "0\n1\n0\n1\n1\n"),
    )
    with serving({"MUTAG.zip": raw}) as server:
        published_here("tudataset", (Download(server.url("{name}.zip")),))
        (one,) = download("tudataset:MUTAG", tmp_path, lambda _: silent)
    assert (one.place, one.checked) == (tmp_path / "tudataset" / "MUTAG", False)
    assert len(load("tudataset:MUTAG", tmp_path).train) == 2


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b"])
def test_a_setting_that_is_a_path_is_refused(name, tmp_path):
    with pytest.raises(SettingError, match="must name files of a data set"):
        download(f"tudataset:name={name}", tmp_path / "data", lambda _: silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet", "registered users alone; register at https://image-net.org"),
        ("heartbeat", "registered users alone; register at https://www.kaggle.com"),
        ("ptb", "registered users alone; register at https://catalog.ldc.upenn.edu"),
        ("digits", "has no published files"),
    ],
)
def test_sets_that_cannot_be_fetched_say_why(name, expected, tmp_path, capsys):
    assert main(["download", name, "--data-dir", str(tmp_path)]) == 2
    assert expected in capsys.readouterr().err


def test_a_download_needs_a_folder(capsys):
    assert main(["download", "mnist"]) == 2
    assert "name one with --data-dir DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["download", "--data-dir", "data"], "takes the names of data sets, got none"),
        (["download", "mnst", "--data-dir", "data"], "did you mean 'mnist'"),
        (["train", "--download"], "did you mean the verb `steppe download`"),
    ],
)
def test_mistakes_in_the_command_are_one_sentence(
    words, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_published_file_has_a_digest_or_a_reason():
    lacking = {
        entry.name
        for entry in DATASETS
        for each in (entry.spec.published.downloads if entry.spec.published else ())
        if not (each.size and each.digest)
    }
    assert lacking == {"tudataset", "wmt14"}  # their publishers name none


@pytest.mark.real_data
def test_published_digests_are_those_of_the_real_files(data_dir):
    for each in DATASETS["mnist"].spec.published.downloads:
        raw = (data_dir / "mnist" / each.file).read_bytes()
        assert len(raw) == each.size
        assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == each.digest


def test_nothing_is_fetched_where_nobody_asks(tmp_path, monkeypatch):
    def connect(*_):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    for entry in DATASETS:
        if entry.spec.needs_files:
            with pytest.raises(DataError) as caught:
                load(entry.name, tmp_path)
            published = entry.spec.published
            offered = published is not None and bool(published.downloads)
            assert ("run `steppe download" in str(caught.value)) is offered
