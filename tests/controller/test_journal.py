"""The journal: what was written is there, whatever kills us; what was changed afterwards is found."""

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from helpers_site import tiny_site

from controller import acts, cycle
from controller.frames import Frames, Requests
from controller.journal import Journal, Recorder, body, open_read, store, verify
from drivers.clock import RealClock, VirtualClock
from drivers.points import Quality

START_MS = 1_767_225_600_000


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(cords=((0, 1),) * 8, envelope_w=400e3))


@pytest.fixture(scope="module")
def frames(b: Bench) -> list[Frames]:
    """Cycles of a small site whose load moves."""
    state, table, out = cycle.begin(b.plan, 1, 1000.0), b.inventory.table(), []
    for second in range(30):
        now_s = 1000.5 + second
        load_w = np.full(b.racks, 60e3) - 1e3 * (second % 7) * np.arange(b.racks)
        table.put(np.arange(b.inventory.size), b.values(load_w, np.full(b.racks, 75e3)), Quality.GOOD, now_s - 0.2)
        out.append(cycle.step(b.plan, table.snapshot(now_s), Requests(), state)[0])
    return out


def written(state: Path, number: int = 60) -> list[store.Entry]:
    """A journal of some records, and these."""
    journal = Journal(state)
    for i in range(number):
        journal.append([(START_MS + i, "act" if i % 5 == 0 else "orders", body.text({"n": i, "why": "x" * (i % 50)}))])
    journal.close()
    return list(open_read(state).entries())


def test_what_was_written_is_there_and_whole(tmp_path: Path) -> None:
    entries = written(tmp_path)
    assert [e.seq for e in entries] == list(range(1, 61))
    assert [json.loads(e.body)["n"] for e in entries] == list(range(60))
    found = verify(tmp_path)
    assert (found.records, found.first, found.problems) == (60, 1, ())
    assert verify(tmp_path, found.head).problems == ()
    assert [e.seq for e in open_read(tmp_path).entries(kinds=("act",), last=3)] == [46, 51, 56]
    assert [e.seq for e in open_read(tmp_path).entries(START_MS + 10, START_MS + 12)] == [11, 12]


def test_a_second_writer_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    written(tmp_path, 5)
    one, two = Journal(tmp_path), Journal(tmp_path)
    for i in range(10):
        (one if i % 2 else two).append([(START_MS, "act", b"{}")])
    assert verify(tmp_path).records == 15
    assert verify(tmp_path).problems == ()


def test_files_are_begun_anew_and_the_chain_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", 20_000)
    written(tmp_path, 200)
    files = store.segments(tmp_path / store.FOLDER)
    assert len(files) > 2
    assert verify(tmp_path).problems == ()
    assert [e.seq for e in open_read(tmp_path).entries(last=199)] == list(range(2, 201))
    files[0].unlink()  # taken away to save room
    kept = verify(tmp_path)
    assert kept.problems == ()
    assert kept.first > 1
    files[1].unlink()
    files[2].unlink()
    assert verify(tmp_path).first > kept.first


def test_a_file_missing_in_the_middle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", 20_000)
    written(tmp_path, 200)
    store.segments(tmp_path / store.FOLDER)[1].unlink()
    assert "are missing" in verify(tmp_path).problems[0]


@pytest.mark.parametrize("checkpointed", [True, False], ids=["file", "log"])
def test_a_flipped_bit_anywhere_that_changes_a_record_is_found(tmp_path: Path, checkpointed: bool) -> None:
    """Bits of the files at random places: each is found, or every record is as it was, a bit of what holds nothing."""
    draw = random.Random(7)
    clean = tmp_path / "clean"
    clean.mkdir()
    before = written(clean) if checkpointed else _unclosed(clean)
    files = [p for p in (clean / store.FOLDER).iterdir() if not p.name.endswith("-shm")]
    names = [p.name for p in files if p.stat().st_size]
    found = 0
    for i in range(200):
        state = tmp_path / f"{i}"
        shutil.copytree(clean, state)
        path = state / store.FOLDER / draw.choice(names)
        data = bytearray(path.read_bytes())
        at = draw.randrange(8 * len(data))
        data[at // 8] ^= 1 << (at % 8)
        path.write_bytes(data)
        if verify(state).problems:
            found += 1
        else:
            assert list(open_read(state).entries()) == before, (path.name, at)
        shutil.rmtree(state)
    assert found > 60


def _unclosed(state: Path) -> list[store.Entry]:
    """A journal as a kill leaves it: everything still in the log beside the file."""
    code = (
        "import os, sys; from pathlib import Path; from controller.journal import Journal, body\n"
        "j = Journal(Path(sys.argv[1]))\n"
        f"for i in range(60): j.append([({START_MS} + i, 'act', body.text({{'n': i}}))])\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(state)], check=True)
    assert any(p.name.endswith("-wal") for p in (state / store.FOLDER).iterdir())
    keep = state.with_name("read")
    shutil.copytree(state, keep)
    return list(open_read(keep).entries())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM records WHERE seq = 30", "records 30 to 30 are missing"),
        ("DELETE FROM records WHERE seq = 1", "records 1 to 1 are missing"),
        ("DELETE FROM records WHERE seq > 50", "the end is cut off: the head file knows record 60"),
        ("DELETE FROM records", "the end is cut off"),
        ("UPDATE records SET body = CAST('{}' AS BLOB) WHERE seq = 30", "record 30 is not what was written"),
        ("UPDATE records SET at_ms = at_ms + 1 WHERE seq = 60", "record 60 is not what was written"),
        ("UPDATE records SET kind = 'act' WHERE seq = 2", "record 2 is not what was written"),
        ("INSERT INTO records SELECT 61, at_ms, kind, body, hash FROM records WHERE seq = 60", "record 61"),
    ],
)
def test_what_was_changed_is_named(tmp_path: Path, change: str, says: str) -> None:
    written(tmp_path)
    (path,) = store.segments(tmp_path / store.FOLDER)
    base = sqlite3.connect(path)
    base.execute(change)
    base.commit()
    base.close()
    assert any(says in p for p in verify(tmp_path).problems), verify(tmp_path).problems


def test_whoever_rewrites_the_end_and_its_head_meets_the_head_that_was_kept(tmp_path: Path) -> None:
    written(tmp_path)
    kept = verify(tmp_path).head
    (path,) = store.segments(tmp_path / store.FOLDER)
    base = sqlite3.connect(path)
    base.execute("DELETE FROM records WHERE seq > 50")
    base.commit()
    base.close()
    (tmp_path / store.FOLDER / "head").unlink()
    Journal(tmp_path).append([(START_MS, "act", b"{}")])
    assert verify(tmp_path).problems == ()
    assert "the end is cut off" in verify(tmp_path, kept).problems[0]


def test_a_missing_head_is_said(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / store.FOLDER / "head").unlink()
    assert "head file is missing" in verify(tmp_path).problems[0]


def test_a_cycle_comes_back_as_it_was_and_unchanged_caps_are_a_count(b: Bench, frames: list[Frames]) -> None:
    last: body.Last | None = None
    cap_w = np.zeros(b.racks)
    reason = np.zeros(b.racks, dtype=np.uint8)
    quiet = 0
    for one in [*frames, frames[-1]]:
        packed, last = body.orders(b.plan, one, 8, last)
        head, arrays = body.orders_arrays(packed)
        assert head == body.orders_head(packed)
        cap_w[arrays["rack"]], reason[arrays["rack"]] = arrays["cap_w"], arrays["reason"]
        assert cap_w == pytest.approx(one.orders.cap_w, abs=0.5)
        assert (reason == one.orders.reason).all()
        assert head["changed"] + head["renewed"] == 8
        quiet += head["changed"] == 0
        for row in set(arrays["row"].tolist()) - {-1}:
            assert head["rows"][str(row)]
    assert quiet >= 1
    assert head["load_w"] == pytest.approx(frames[-1].estimate.load_w[b.plan.envelope_row], abs=1)


def test_the_recorder_writes_all_kinds_and_an_act_once(tmp_path: Path, b: Bench, frames: list[Frames]) -> None:
    act = {"at_ms": 1, "by": "ann", "why": "drill", "act": "hold", "rack": "r1"}
    for _ in range(3):  # three starts that read the same file of acts
        recorder = Recorder(tmp_path, b.plan, VirtualClock())
        recorder.put("start", {"epoch": 1})
        recorder.act(57, act)
        recorder.act(57, act)
        for one in frames:
            recorder.cycle(one, 8)
        assert recorder.close(30.0)
    kinds = [e.kind for e in open_read(tmp_path).entries()]
    assert kinds.count("orders") == 90
    assert kinds.count("start") == 3
    assert kinds.count("act") == 1
    assert verify(tmp_path).problems == ()


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """No file may grow beyond `free` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_cycles_that_are_counted_and_no_act(tmp_path: Path, b: Bench, frames: list[Frames]) -> None:
    recorder = Recorder(tmp_path, b.plan, VirtualClock())
    recorder.cycle(frames[0], 8)
    _until(lambda: recorder._cycles.waiting == 0 and recorder._journal is not None)
    with full_disk(1000):
        for one in frames[1:]:
            recorder.cycle(one, 8)
        recorder.act(9, {"act": "mode", "mode": "hold"})
        _until(lambda: recorder.lost >= len(frames) - 1)
        assert "journal: " in recorder.complaint()
        assert "records lost" in recorder.complaint()
    recorder.cycle(frames[0], 8)
    assert recorder.close(30.0)
    assert recorder.complaint() == ""
    entries = list(open_read(tmp_path).entries())
    assert [e.kind for e in entries].count("act") == 1
    gaps = [json.loads(e.body) for e in entries if e.kind == "gap"]
    assert sum(g["records"] for g in gaps) == recorder.lost
    assert verify(tmp_path).problems == ()


def test_a_stuck_disk_never_holds_the_cycle(tmp_path: Path, b: Bench, frames: list[Frames]) -> None:
    """Somebody holds the file locked: thousands of cycles are put in no time, the oldest are dropped and counted."""
    written(tmp_path, 1)
    (path,) = store.segments(tmp_path / store.FOLDER)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    recorder = Recorder(tmp_path, b.plan, VirtualClock())
    began_s = RealClock().now_s()
    for i in range(2000):
        recorder.cycle(replace(frames[0], image=replace(frames[0].image, cycle=i)), 8)
    assert RealClock().now_s() - began_s < 1.0
    assert recorder.dropped >= 2000 - 300 - 2
    assert "cycles wait" in recorder.complaint()
    holder.execute("ROLLBACK")
    holder.close()
    assert recorder.close(60.0)
    lost = sum(json.loads(e.body)["records"] for e in open_read(tmp_path).entries(kinds=("gap",)))
    there = sum(e.kind == "orders" for e in open_read(tmp_path).entries())
    assert lost + there == 2000


def _until(condition: Any, seconds: float = 30.0) -> None:
    clock = RealClock()
    end_s = clock.now_s() + seconds
    while not condition():
        assert clock.now_s() < end_s


KILLED = """
import sys
from pathlib import Path
from helpers_control import bench, Wiring
from helpers_site import tiny_site
from controller import acts
from controller.journal import Recorder
from drivers.clock import RealClock
state, site, clock = Path(sys.argv[1]), tiny_site(), RealClock()
recorder = Recorder(state, bench(Wiring()).plan, clock)
taken = acts.Acts(state, site)
print("READY", flush=True)
for line in sys.stdin:
    acts.append(state, site, clock, "ann", line.strip(), {"act": "hold", "rack": "r1"})
    print(line.strip(), flush=True)  # answered: it must outlive anything
    taken.poll()
    for ends, act in taken.take():
        recorder.act(ends, act)
"""


def test_kill_9_in_the_middle_of_anything_loses_no_acknowledged_act(tmp_path: Path) -> None:
    """A process that takes acts and writes the journal is killed many times at random moments, each time anew."""
    draw, answered, asked = random.Random(3), list[str](), 0
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(["tests", "."])}
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "READY"
        for _ in range(draw.randrange(3, 25)):
            process.stdin.write(f"act {asked}\n")
            process.stdin.flush()
            asked += 1
            if draw.random() < 0.9:
                answered.append(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        answered += [line.strip() for line in process.stdout.readlines() if line.endswith("\n")]
        process.communicate()
    site = tiny_site()
    recorder = Recorder(tmp_path, bench(Wiring()).plan, VirtualClock())
    last = acts.Acts(tmp_path, site)
    last.poll()
    for ends, act in last.take():
        recorder.act(ends, act)
    assert recorder.close(30.0)
    journalled = [json.loads(e.body)["why"] for e in open_read(tmp_path).entries(kinds=("act",))]
    assert len(answered) > 40
    assert set(answered) <= set(journalled)
    assert len(journalled) == len(set(journalled))
    assert verify(tmp_path).problems == ()
