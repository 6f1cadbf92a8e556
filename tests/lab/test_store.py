"""Runs in a folder: written whole or not at all, and worked on by one at a time."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading

import pytest

from steppe.errors import SettingError, StoreError
from steppe.files import leases
from steppe_lab.store.json_files import (
    canonical_json,
    digest,
    read_json,
    read_record,
    write_atomically,
    write_json,
    write_record,
)
from steppe_lab.store.store import Failure, Row, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def run(store):
    return store.add({"optimizer": "sam:rho=0.05", "seed": 1})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refuse_to_write(monkeypatch, code):
    def write(descriptor, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", write)


def forge(store, run, age=0.0, **holder):
    """A lease with what is given changed, and a heartbeat so many seconds old."""
    lease = store.claim(run)
    record = json.loads(lease.path.read_text())
    lease.path.write_text(json.dumps({**record, "token": "other", **holder}))
    beat = lease.path.stat().st_mtime - age
    os.utime(lease.path, (beat, beat))
    return lease.path


def held_by_a_dead_process(store, run):
    """The lease of a process of this host that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return forge(store, run, pid=process.pid)


# ---- files


def test_floats_come_back_bit_for_bit(tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1e16]
    write_json(tmp_path / "a.json", values)
    back = read_json(tmp_path / "a.json")
    assert [x.hex() for x in back] == [x.hex() for x in values]


def test_numbers_that_json_cannot_say_become_null(tmp_path):
    value = {"loss": [math.nan, 1.5], "worst": (math.inf, -math.inf)}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {"loss": [None, 1.5], "worst": [None] * 2}


def test_a_record_has_one_text_whatever_the_order_of_its_keys():
    record = {"b": [1, 0.1, None, True], "a": {"d": "ä", "c": 1e-5}}
    text = '{"a":{"c":1e-05,"d":"\\u00e4"},"b":[1,0.1,null,true]}'
    assert canonical_json(record) == text
    assert canonical_json(dict(reversed(record.items()))) == text


def test_digest_is_the_sha256_of_the_text():
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({}) == empty


@pytest.mark.parametrize("bad", [math.nan, math.inf, object(), {1, 2}])
def test_settings_that_are_no_value_are_refused(bad):
    with pytest.raises(SettingError):
        canonical_json({"rho": bad})


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    refuse_to_write(monkeypatch, errno.ENOSPC)
    with pytest.raises(StoreError, match=r"^cannot write .*a\.json: no space left on"):
        write_atomically(path, "new")
    assert names(tmp_path) == ["a.json"]
    assert path.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"^cannot write .*file.*: .*\.$"):
        write_atomically(tmp_path / "file" / "a.json", "new")


def test_a_rename_whose_answer_was_lost_has_been_done(tmp_path, monkeypatch):
    path, replace = tmp_path / "a.json", os.replace
    write_atomically(path, "old")

    def replace_twice(source, target):
        replace(source, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_twice)
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


def test_a_file_whose_draft_was_swept_is_not_written(tmp_path, monkeypatch):
    path, replace = tmp_path / "a.json", os.replace
    write_atomically(path, "old")

    def sweep_before(source, target):
        os.unlink(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", sweep_before)
    with pytest.raises(StoreError, match="no such file"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_new_folders_are_synced_by_name_from_the_inside_out(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def record(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_atomically(tmp_path / "a" / "b" / "c.json", "new")
    draft, *folders = synced
    assert draft.startswith(str(tmp_path / "a" / "b" / ".c.json."))
    assert folders == [str(p) for p in (tmp_path / "a" / "b", tmp_path / "a", tmp_path)]


@pytest.mark.parametrize("survives", ["content", "nothing"])
def test_what_need_not_survive_a_loss_of_power_waits_less(
    tmp_path, monkeypatch, survives
):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_json(tmp_path / "a.json", [1], survives=survives)
    assert len(synced) == (survives == "content")
    assert read_json(tmp_path / "a.json") == [1]


def test_a_file_that_was_replaced_on_a_network_is_opened_again(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", [1])
    stat, refusals = os.stat, [errno.ESTALE, errno.ESTALE]

    def stale(path, *args, **options):
        if refusals and str(path).endswith("a.json"):
            raise OSError(refusals.pop(), "stale file handle")
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", stale)
    assert read_json(tmp_path / "a.json") == [1]
    refusals += [errno.ESTALE] * 9
    with pytest.raises(StoreError, match=r"cannot read .*: stale file handle"):
        read_json(tmp_path / "a.json")


# ---- store


@pytest.mark.parametrize("below", ["", "store"])
def test_a_store_needs_a_folder(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="name another folder"):
        Store(tmp_path / "file" / below).add({"seed": 1})


def test_a_store_without_the_right_to_write_is_one_sentence(tmp_path, monkeypatch):
    refuse_to_write(monkeypatch, errno.EACCES)
    with pytest.raises(StoreError, match="permission denied; make room or rights"):
        Store(tmp_path / "store").add({"seed": 1})


def test_looking_at_a_store_makes_no_folder(tmp_path):
    store = Store(tmp_path / "store")
    assert store.ids() == []
    assert not store.root.exists()


def test_a_reopened_run_is_worked_on_again(store, run):
    store.finish(run, {"loss": 0.5})
    store.reopen(run)
    assert store.status(run) == "waiting"
    assert store.claim(run) is not None


def test_a_newer_format_is_refused(store):
    write_json(store.root / "store.json", {"format": 2, "steppe": "9.1"})
    with pytest.raises(StoreError, match=r"format 2, made by steppe 9\.1, .* upgrade"):
        Store(store.root)


@pytest.mark.parametrize("text", ['{"format"', "[]", '{"format": "x"}'])
def test_a_damaged_marker_is_refused(store, text):
    store.root.mkdir()
    (store.root / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        Store(store.root)


def test_adding_twice_is_adding_once(store):
    first = store.add({"seed": 1, "rho": 0.05})
    assert store.add({"rho": 0.05, "seed": 1}) == first
    assert store.ids() == [first]
    assert first == digest({"seed": 1, "rho": 0.05})[:16]


def test_other_settings_under_the_same_id_are_refused(store, run):
    write_json(store.folder(run) / "config.json", {"seed": 2})
    with pytest.raises(StoreError, match="other settings"):
        store.add({"optimizer": "sam:rho=0.05", "seed": 1})


def test_many_are_added_as_each_alone(store):
    configs = [{"seed": n} for n in range(40)]
    single = [Store(store.root.with_name("other")).add(config) for config in configs]
    assert store.add_all([*configs, configs[3]]) == [*single, single[3]]
    assert store.add_all(configs[:2]) == single[:2]
    assert store.ids() == sorted(single)
    assert [store.config(run) for run in single] == configs


def test_of_many_with_one_that_is_no_setting_none_is_added(store):
    with pytest.raises(SettingError):
        store.add_all([{"seed": 1}, {"seed": math.nan}])
    assert store.ids() == []


@pytest.mark.parametrize("text", ["", "\0" * 30, '{"optimizer": "sam'])
def test_settings_that_a_loss_of_power_emptied_are_written_again(store, run, text):
    path = store.folder(run) / "config.json"
    whole = path.read_text()
    path.write_text(text)
    assert store.add(json.loads(whole)) == run
    assert path.read_text() == whole


def test_damaged_settings_beside_a_result_are_refused(store, run):
    config = store.config(run)
    store.finish(run, {"loss": 0.5})
    (store.folder(run) / "config.json").write_text("")
    with pytest.raises(StoreError, match=r"config\.json is damaged"):
        store.add(config)


@pytest.mark.parametrize("text", ["1e999", "NaN", "[[[1e400]]]"])
def test_settings_that_are_infinite_are_damaged(store, run, text):
    (store.folder(run) / "config.json").write_text(f'{{"seed": {text}}}')
    with pytest.raises(StoreError, match=r"config\.json is damaged \(.*no finite"):
        store.config(run)


def test_a_record_has_a_line_for_each_entry_of_its_upper_levels(tmp_path):
    record = {
        "measures": {"lpf": {"value": 0.1, "of": [1, {"a": 2}]}, "ä": None},
        "epochs": [{"loss": 1.0, "by": [[1], [2]]}, {"loss": math.nan}],
        "none": {},
        "many": [1, 2],
        5: (True, "x\n"),
    }
    write_record(tmp_path / "a.json", record)
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert lines[:-2] == [
        "{",
        '  "measures": {',
        '    "lpf": {"value": 0.1, "of": [1, {"a": 2}]},',
        '    "ä": null',
        "  },",
        '  "epochs": [',
        '    {"loss": 1.0, "by": [[1], [2]]},',
        '    {"loss": null}',
        "  ],",
        '  "none": {},',
        '  "many": [1, 2],',
        '  "5": [true, "x\\n"],',
    ]
    back = {**record, "5": [True, "x\n"]}
    del back[5]
    back["epochs"] = [record["epochs"][0], {"loss": None}]
    assert read_record(tmp_path / "a.json") == back


def test_an_infinite_number_in_a_sealed_record_is_damage(store, run):
    store.finish(run, {"loss": 0.5})
    path = store.folder(run) / "result.json"
    path.write_text(path.read_text().replace("0.5", "1e999"))
    with pytest.raises(StoreError, match=r"result\.json is damaged \(.*no finite"):
        store.result(run)


def test_a_run_goes_from_waiting_to_running_to_finished(store, run):
    assert store.status(run) == "waiting"
    with store.claim(run):
        assert store.status(run) == "running"
        store.finish(run, {"loss": 0.5})
    assert store.status(run) == "finished"
    assert store.result(run) == {"loss": 0.5}
    assert names(store.folder(run)) == ["config.json", "result.json"]


def test_the_first_result_stays(store, run):
    store.finish(run, {"loss": 0.5})
    store.finish(run, {"loss": 0.7})
    assert store.result(run) == {"loss": 0.5}
    assert store.claim(run) is None


def test_failures_are_kept_and_counted(store, run):
    store.fail(run, "first\n  reason", died=True)
    assert store.failure(run) == Failure("first reason", 1, died=True)
    store.fail(run, "second")
    assert store.failure(run) == Failure("second", 2)
    assert store.status(run) == "failed"
    assert store.claim(run) is not None
    assert store.status(run) == "running"


def test_rows_hold_what_is_known(store):
    done, bad = store.add({"seed": 1}), store.add({"seed": 2})
    store.finish(done, {"loss": 0.5})
    failure = store.fail(bad, "no")
    assert list(store.rows([done, bad])) == [
        Row(done, "finished", {"seed": 1}, {"loss": 0.5}, None),
        Row(bad, "failed", {"seed": 2}, None, failure),
    ]
    assert [row.id for row in store.rows()] == sorted([done, bad])


@pytest.mark.parametrize("text", ["", '{"loss": 0.', "[1]", "\x80"])
def test_a_damaged_result_is_named_with_the_fix(store, run, text):
    (store.folder(run) / "result.json").write_bytes(text.encode("latin-1"))
    sentence = rf"result\.json is damaged \(.*\); delete the folder .*{run} and run"
    with pytest.raises(StoreError, match=sentence):
        list(store.rows())


def test_an_unknown_run_is_refused(store):
    for call in (store.claim, store.status):
        with pytest.raises(StoreError, match="there is no run feed"):
            call("feed")


@pytest.mark.parametrize("name", ["", "../a", "/a", "a/../../b", "result.json"])
def test_artefacts_stay_in_their_folder(store, run, name):
    with pytest.raises(SettingError, match="relative name of its own"):
        store.artefact(run, name)


def test_an_artefact_lies_below_its_run(store, run):
    path = store.artefact(run, "measures/lpf-ab12.json")
    write_json(path, {"value": 1.0})
    assert path == store.folder(run) / "measures" / "lpf-ab12.json"


def test_reading_needs_no_right_to_write(store, run, monkeypatch):
    store.claim(run)

    def refuse(path, flags, mode):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    assert [row.status for row in Store(store.root).rows()] == ["running"]


# ---- leases


def test_a_lease_excludes_others_until_released(store, run):
    lease = store.claim(run)
    assert store.claim(run) is None
    lease.release()
    assert not lease.beat()
    assert store.claim(run) is not None


def test_a_lease_of_a_dead_process_is_stolen_at_once(store, run):
    held_by_a_dead_process(store, run)
    assert store.status(run) == "waiting"
    lease = store.claim(run)
    assert lease.held()
    assert names(store.folder(run)) == ["config.json", "lease.json"]


def test_a_number_used_again_by_another_process_keeps_no_lease(store, run):
    forge(store, run, started=leases.started(os.getpid()) - 1)
    assert store.claim(run) is not None


@pytest.mark.parametrize("text", [None, ""])
def test_a_silent_lease_of_another_host_is_stolen(store, run, text):
    path = forge(store, run, age=59.0, host="elsewhere")
    if text is not None:  # cut off while being written
        path.write_text(text)
    assert store.claim(run) is None
    beat = path.stat().st_mtime - (2.0 if text is None else 61.0)
    os.utime(path, (beat, beat))
    assert store.claim(run) is not None


def test_a_beat_keeps_a_lease_and_a_thief_ends_it(store, run, monkeypatch):
    monkeypatch.setattr(leases, "_WATCHED", 0.1)
    lease = store.claim(run)
    os.utime(lease.path, (0, 0))
    assert lease.beat()
    assert store.claim(run) is None
    os.utime(lease.path, (0, 0))
    stolen = store.claim(run)
    assert not lease.beat()
    lease.release()
    assert stolen.held()


@pytest.mark.slow
def test_of_many_breakers_one_gets_the_lease(store, run, monkeypatch):
    monkeypatch.setattr(leases, "_WATCHED", 0.1)  # seconds, of which it waits each time
    for _ in range(20):
        forge(store, run, age=99.0, host="elsewhere")
        gate, got = threading.Barrier(6), []

        def steal(gate=gate, got=got):
            gate.wait()
            got.append(store.claim(run))

        breakers = [threading.Thread(target=steal) for _ in range(6)]
        for breaker in breakers:
            breaker.start()
        for breaker in breakers:
            breaker.join()
        (lease,) = [lease for lease in got if lease is not None]
        assert lease.held()
        lease.release()
        assert names(store.folder(run)) == ["config.json"]


def test_a_thief_that_comes_late_puts_the_fresh_lease_back(store, run):
    path = forge(store, run, age=99.0, host="elsewhere", token="old")
    faster = store.claim(run)
    assert not leases.take_away(path, "old")
    assert faster.held()
    assert store.claim(run) is None
    assert names(store.folder(run)) == ["config.json", "lease.json"]


def test_a_thief_killed_in_the_act_stops_nobody(store, run):
    path = forge(store, run, age=99.0, host="elsewhere")
    turn = path.with_name(".lease.json.breaker")
    turn.write_text(path.read_text())
    assert store.claim(run) is None  # it may be at work
    os.utime(turn, (0, 0))
    assert store.claim(run) is not None
    assert names(store.folder(run)) == ["config.json", "lease.json"]


def test_crumbs_of_a_killed_writer_are_swept_by_the_next_claim(store, run):
    (store.folder(run) / ".result.json.12.tmp").touch()
    (store.folder(run) / "track").mkdir()
    (store.folder(run) / "track" / ".history.csv.12.tmp").touch()
    store.claim(run)
    assert names(store.folder(run)) == ["config.json", "lease.json", "track"]
    assert names(store.folder(run) / "track") == []


def claim_until(store, run, function):
    """Claim in a process that is killed where it first enters a function of `os`."""
    child = os.fork()
    if child == 0:
        setattr(os, function, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        try:
            store.claim(run)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
@pytest.mark.parametrize("function", ["open", "write", "close", "link", "unlink"])
def test_a_process_killed_while_it_claims_stops_nobody(store, run, function):
    claim_until(store, run, function)
    assert store.status(run) == "waiting"
    assert store.claim(run).held()
    assert names(store.folder(run)) == ["config.json", "lease.json"]


def test_leases_exclude_where_the_file_system_has_no_links(store, run, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    lease = store.claim(run)
    assert lease.held()
    assert store.claim(run) is None
    assert names(store.folder(run)) == ["config.json", "lease.json"]


def test_a_lease_is_ours_where_the_answer_to_the_link_was_lost(store, run, monkeypatch):
    link = os.link

    def link_twice(draft, path):
        link(draft, path)
        link(draft, path)

    monkeypatch.setattr(os, "link", link_twice)
    assert store.claim(run).held()
    monkeypatch.undo()
    assert store.claim(run) is None


def test_a_lease_is_of_the_process_that_swept_the_draft_of_another(
    store, run, monkeypatch
):
    link, lease = os.link, []

    def sweep_before(draft, path):
        monkeypatch.setattr(os, "link", link)
        lease.append(store.claim(run))
        link(draft, path)

    monkeypatch.setattr(os, "link", sweep_before)
    assert store.claim(run) is None
    assert lease[0].held()


def test_a_full_disk_leaves_no_lease(store, run, monkeypatch):
    refuse_to_write(monkeypatch, errno.ENOSPC)
    with pytest.raises(StoreError, match=r"lease\.json: no space left"):
        store.claim(run)
    assert names(store.folder(run)) == ["config.json"]


def test_a_finished_run_gives_up_the_lease_of_a_dead_process(store, run):
    held_by_a_dead_process(store, run)
    store.finish(run, {})
    assert store.free(run)
    assert names(store.folder(run)) == ["config.json", "result.json"]
