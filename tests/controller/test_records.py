"""What a controller leaves behind, as a whole: said as alarms where it fails, nothing twice after a restart."""

import gc
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench

from controller import cycle, history
from controller.frames import Frames, Mode, Requests
from controller.history import recorder as history_recorder
from controller.history.layout import layout_of
from controller.journal import open_read
from controller.records import Records
from drivers.clock import RealClock, VirtualClock
from drivers.points import Quality, Snapshot
from drivers.wires import LinkHealth

UP = (LinkHealth("modbus gw1", True, 35, 0, 500.0),)


class Desk:
    """A small site, its cycles and its records."""

    def __init__(self, state: Path, mode: Mode = Mode.HOLD) -> None:
        self.state, self.b, self.clock, self.mode = state, bench(Wiring()), VirtualClock(), mode
        self.control = cycle.begin(self.b.plan, 1, self.clock.now_s())
        self.table = self.b.inventory.table()
        self.records = self.again()

    def again(self) -> Records:
        """The records of a new controller."""
        self.records = Records(self.b.plan, self.b.inventory, self.state, self.clock)
        self.records.start(1)
        return self.records

    def second(self) -> dict[str, object]:
        """One cycle; what the feed shows of the alarms."""
        now_s = self.clock.advance(1.0)
        frames, shot = self._cycle(now_s)
        self.records.write((), frames, shot, self.b.racks)
        told = self.records.told(frames, UP, 0, ())
        assert told is not None
        return told

    def _cycle(self, now_s: float) -> tuple[Frames, Snapshot]:
        b: Bench = self.b
        value = b.values(np.full(b.racks, 60e3), np.full(b.racks, 75e3))
        self.table.put(np.arange(b.inventory.size), value, Quality.GOOD, now_s - 0.2)
        shot = self.table.snapshot(now_s)
        return cycle.step(b.plan, shot, Requests(self.mode), self.control)[0], shot


def ids(told: dict[str, object], key: str = "alarm_list") -> list[str]:
    listed = told[key]
    assert isinstance(listed, list)
    return [x["id"] for x in listed]


def until(condition: object, seconds: float = 30.0) -> None:
    clock, pause = RealClock(), threading.Event()
    end_s = clock.now_s() + seconds
    while not condition():  # type: ignore[operator]
        assert clock.now_s() < end_s
        pause.wait(0.01)


def test_what_the_feed_carries_is_plain_json(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    told = desk.second()
    desk.records.stop()
    assert ids(told) == ["mode/site"]
    (alarm,) = json.loads(json.dumps(told, allow_nan=False))["alarm_list"]
    assert list(alarm) == [
        "id", "code", "priority", "element", "text", "state", "since_ms", "acked_by", "shelved_until_ms", "first_out",
    ]  # fmt: skip
    assert alarm["since_ms"] == desk.clock.wall_ms()
    assert told["alarms"] == ["mode is HOLD"]


def test_a_journal_that_cannot_be_written_is_an_alarm_and_the_cycle_goes_on(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("not a folder")
    desk = Desk(tmp_path)
    for _ in range(3):
        desk.second()
    until(lambda: desk.records._own())
    said = [desk.second() for _ in range(10)]
    assert "journal_failing/site" in ids(said[-1])
    (tmp_path / "journal").unlink()
    desk.second()
    until(lambda: not desk.records._own())
    for _ in range(32):
        told = desk.second()
    desk.records.stop()
    assert [x["state"] for x in told["alarm_list"] if x["code"] == "journal_failing"] == ["returned"]  # type: ignore[attr-defined]
    entries = list(open_read(tmp_path).entries())
    gaps = [json.loads(e.body)["records"] for e in entries if e.kind == "gap"]
    assert sum(gaps) + sum(e.kind == "orders" for e in entries) == 46
    assert [e.kind for e in entries].count("start") == 1  # what is rare waits for the disk


def test_a_restart_keeps_alarms_and_journals_no_act_twice(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.second()
    at_ms = desk.clock.wall_ms()
    acts = [
        (50, {"act": "ack", "alarm": "mode/site", "by": "ann", "why": "drill", "at_ms": at_ms}),
        (99, {"act": "shelve", "alarm": "points_bad/site", "for_s": 60, "by": "ann", "why": "known", "at_ms": at_ms}),
        (140, {"act": "shelve", "alarm": "nonsense", "for_s": 60, "by": "eve", "why": "", "at_ms": at_ms}),
        (180, {"act": "hold", "rack": "r1", "by": "ann", "why": "drill", "at_ms": at_ms}),
    ]
    desk.records.acts(acts)
    told = desk.second()
    desk.records.stop()
    desk.again()
    desk.records.acts(acts)
    again = desk.second()
    assert again["alarm_list"] == told["alarm_list"]
    assert ids(again, "alarms_aside") == ["points_bad/site"]
    for _ in range(62):
        again = desk.second()
    assert ids(again, "alarms_aside") == []
    desk.records.stop()
    kinds = [e.kind for e in open_read(tmp_path).entries()]
    assert kinds.count("act") == len(acts)
    changes = [json.loads(e.body) for e in open_read(tmp_path).entries(kinds=("alarm",))]
    mine = [c for c in changes if c["code"] in ("mode", "points_bad")]  # the disk may be slower than virtual time
    assert [(c["id"], c["now"], c["by"]) for c in mine] == [
        ("mode/site", "unacknowledged", ""),
        ("mode/site", "acknowledged", "ann"),
        ("points_bad/site", "shelved", "ann"),
        ("points_bad/site", "normal", ""),
    ]


def test_records_that_fail_cost_neither_the_cycle_nor_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)
    desk.second()
    desk.records.stop()

    def burst(*_: object, **__: object) -> None:
        raise RuntimeError("the records are on fire")

    monkeypatch.setattr(desk.records, "cycle", burst)
    monkeypatch.setattr(desk.records.board, "step", burst)
    frames, shot = desk._cycle(desk.clock.advance(1.0))
    desk.records.write((), frames, shot, 4)
    assert desk.records.told(frames, UP, 0, ()) is None
    assert caplog.text.count("the records are on fire") >= 2


def test_a_history_that_cannot_begin_costs_the_history_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def burst(*_: object) -> None:
        raise RuntimeError("no layout for this")

    monkeypatch.setattr("controller.history.layout_of", burst)
    (tmp_path / "alarms.json").write_text('{"alarms": 7}')
    desk = Desk(tmp_path)
    assert ids(desk.second()) == ["mode/site"]
    desk.records.stop()
    assert "no layout for this" in caplog.text
    assert "orders" in [e.kind for e in open_read(tmp_path).entries()]


def test_hooks_that_cannot_be_taken_are_said_and_stop_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "notify.yaml").write_text("smtp: {host: x}\n")
    desk = Desk(tmp_path)
    desk.second()
    desk.records.stop()
    assert "no messages are sent" in caplog.text


def test_work_on_the_history_that_takes_longer_than_the_stop_goes_on_by_itself(tmp_path: Path) -> None:
    layout = layout_of(bench().plan, bench().inventory)
    recorder = history.Recorder(tmp_path, layout, RealClock())
    recorder._work = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    recorder.close(0.1)
    del recorder
    gc.collect()  # a process that is taken for lost would be an error here
    left = history_recorder._LEFT.pop()
    assert left.poll() is None
    left.kill()
    left.wait()
