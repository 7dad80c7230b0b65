"""History: every value comes back as it was, gaps as gaps; a kill, a full disk and a torn frame cost what they must."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import history_query
from controller.history import Recorder, frame_log, layout_of
from controller.history.columns import NO_VALUE, Block, filled, minutes
from controller.history.layout import MISSING, Layout
from controller.history.paths import Paths
from controller.history.work import HOUR_MS, Keep, advance, forget, keep
from controller.history_query import HistoryError, query
from drivers.clock import RealClock, VirtualClock
from drivers.points import Quality, Snapshot

START_MS = 1_767_225_600_000
DRAW = np.random.default_rng(5)


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(cords=((0, 1),) * 8))


@pytest.fixture(scope="module")
def layout(b: Bench) -> Layout:
    return layout_of(b.plan, b.inventory)


def noisy(b: Bench, seconds: int) -> np.ndarray:
    """Values of every point, second by second, with noise [seconds, P]."""
    base = b.values(np.full(b.racks, 60e3), np.full(b.racks, 75e3))
    return base * (1.0 + 0.01 * DRAW.standard_normal((seconds, len(base))))


def record(
    state: Path, layout: Layout, value: np.ndarray, start_ms: int = START_MS, bad: np.ndarray | None = None
) -> None:
    """Frames a second, as the controller writes them, then all the work that there is at their end."""
    paths = Paths.of(state)
    paths.make()
    layout.save(paths.log)
    writer = frame_log.Writer(paths.log, layout)
    quality = np.zeros(value.shape, dtype=np.uint8) if bad is None else bad
    for i, row in enumerate(value):
        writer.append(start_ms + 1000 * i, i, row, quality[i])
    writer.finish()


def test_an_integer_register_keeps_its_integer_and_a_float_its_resolution(b: Bench, layout: Layout) -> None:
    assert len(set(layout.names.tolist())) == b.inventory.size
    step = dict(zip(layout.names.tolist(), layout.step.tolist(), strict=True))
    flow = next(n for n in step if n.endswith("flow_lpm") and n.startswith("c0"))
    assert step[flow] == 0.1  # u16, scale 0.1
    assert step["p0a.power_w"] == pytest.approx(1.0)  # 200 A at 400 V: 139 kVA
    for name, full in (("u0.power_w", 400e3), ("feed0.power_w", 2e6)):
        assert full * 1e-6 < step[name] <= full * 1e-5
    raw = DRAW.integers(-(2**31) + 1, 2**31 - 1, layout.size)
    assert (layout.raw(raw * layout.step + layout.offset) == raw).all()
    assert (layout.raw(np.full(layout.size, np.nan)) == MISSING).all()
    assert (layout.raw(np.full(layout.size, 1e300)) == MISSING).all()


@pytest.mark.parametrize("when", ["logged", "transposed", "merged"])
def test_what_was_seen_comes_back_wherever_it_lies(tmp_path: Path, b: Bench, layout: Layout, when: str) -> None:
    value = noisy(b, 700)
    quality = np.zeros(value.shape, dtype=np.uint8)
    value[100:110, 3], quality[100:110, 3] = np.nan, Quality.STALE
    quality[200:210, 3] = Quality.SUSPECT
    record(tmp_path, layout, value, bad=quality)
    if when != "logged":
        advance(tmp_path, START_MS + (2 * HOUR_MS if when == "merged" else 700_000))
    assert len(list(Paths.of(tmp_path).hours.iterdir())) == (when == "merged")
    for slot in (0, 3, 17, layout.size - 1):
        found = query(tmp_path, layout.names[slot], START_MS, START_MS + HOUR_MS)
        assert (found.t_ms == START_MS + 1000 * np.arange(700)).all()
        assert found.mean == pytest.approx(value[:, slot], abs=0.51 * layout.step[slot], nan_ok=True)
        assert (found.quality[np.isfinite(found.mean)] == quality[np.isfinite(found.mean), slot]).all()
        assert (np.isnan(found.mean) == np.isnan(value[:, slot])).all()
    assert (query(tmp_path, layout.names[3], START_MS, START_MS + HOUR_MS).quality[100:110] >= Quality.STALE).all()


def test_plots_have_least_mean_and_most_of_each_bin(tmp_path: Path, b: Bench, layout: Layout) -> None:
    value = noisy(b, 600)
    value[60:120, 5] = np.nan
    record(tmp_path, layout, value)
    advance(tmp_path, START_MS + 2 * HOUR_MS)
    for slot in (0, 5):
        found = query(tmp_path, layout.names[slot], START_MS, START_MS + HOUR_MS, 60.0)
        bins = value[:, slot].reshape(10, 60)
        known = ~np.isnan(bins[:, 0])
        assert found.t_ms.tolist() == [START_MS + 60_000 * i for i in range(10)]
        assert found.low[known] == pytest.approx(bins[known].min(axis=1), abs=layout.step[slot])
        assert found.high[known] == pytest.approx(bins[known].max(axis=1), abs=layout.step[slot])
        assert found.mean[known] == pytest.approx(bins[known].mean(axis=1), abs=layout.step[slot])
        assert np.isnan(found.mean[~known]).all()
        coarse = query(tmp_path, layout.names[slot], START_MS, START_MS + HOUR_MS, 300.0)
        assert coarse.high == pytest.approx(np.nanmax(value[:, slot].reshape(2, 300), axis=1), abs=layout.step[slot])
        fine = query(tmp_path, layout.names[slot], START_MS, START_MS + HOUR_MS, 10.0)
        assert len(fine.t_ms) == 60
    assert all(x is None or np.isfinite(x) for x in found.to_dict()["mean"])


def test_hours_are_merged_once_they_are_over_and_a_late_piece_joins(tmp_path: Path, b: Bench, layout: Layout) -> None:
    value = noisy(b, 4200)
    record(tmp_path, layout, value[:4000])
    advance(tmp_path, START_MS + 4_000_000)
    paths = Paths.of(tmp_path)
    assert len(list(paths.hours.iterdir())) == 1
    assert len(list(paths.recent.iterdir())) == 2
    record(tmp_path, layout, value[4000:], START_MS + 4_000_000)
    advance(tmp_path, START_MS + 3 * HOUR_MS)
    assert list(paths.recent.iterdir()) == []
    found = query(tmp_path, layout.names[7], START_MS, START_MS + 2 * HOUR_MS)
    assert found.mean == pytest.approx(value[:, 7], abs=0.51 * layout.step[7])
    record(tmp_path, layout, value[:50], START_MS + 500)  # frames of an hour that is merged, between the others
    advance(tmp_path, START_MS + 3 * HOUR_MS)
    found = query(tmp_path, layout.names[7], START_MS, START_MS + 2 * HOUR_MS)
    assert len(found.t_ms) == 4250
    assert (np.diff(found.t_ms) > 0).all()
    assert found.mean[:100:2] == pytest.approx(value[:50, 7], abs=0.51 * layout.step[7])


def test_any_program_can_read_the_files(tmp_path: Path, b: Bench, layout: Layout) -> None:
    value = noisy(b, 30)
    record(tmp_path, layout, value)
    advance(tmp_path, START_MS + 2 * HOUR_MS)
    (path,) = Paths.of(tmp_path).hours.iterdir()
    with duckdb.connect() as base:
        rows = base.execute(f"SELECT name, step, \"offset\", values FROM '{path}' WHERE name <> ''").fetchall()
    assert sorted(r[0] for r in rows) == sorted(layout.names.tolist())
    slots = {n: i for i, n in enumerate(layout.names.tolist())}
    name, step, offset, raw = rows[11]
    assert np.array(raw) * step + offset == pytest.approx(value[:, slots[name]], abs=0.51 * step)


def test_a_torn_last_frame_is_said_and_nothing_else_is_lost(tmp_path: Path, b: Bench, layout: Layout) -> None:
    value = noisy(b, 40)
    record(tmp_path, layout, value)
    (path,) = Paths.of(tmp_path).log.glob("*.done")
    path.write_bytes(path.read_bytes()[:-100])
    assert len(query(tmp_path, layout.names[2], START_MS, START_MS + HOUR_MS).t_ms) == 39
    (said,) = advance(tmp_path, START_MS + 40_000)
    assert "the last frame is torn" in said
    found = query(tmp_path, layout.names[2], START_MS, START_MS + HOUR_MS)
    assert found.mean == pytest.approx(value[:39, 2], abs=0.51 * layout.step[2])


def test_a_damaged_frame_is_left_out_and_said(tmp_path: Path, b: Bench, layout: Layout) -> None:
    value = noisy(b, 40)
    record(tmp_path, layout, value)
    (path,) = Paths.of(tmp_path).log.glob("*.done")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert advance(tmp_path, START_MS + 40_000) == [f"{path.name}: 1 frames are damaged and left out"]
    assert len(query(tmp_path, layout.names[2], START_MS, START_MS + HOUR_MS).t_ms) == 39


def test_without_its_layout_a_log_is_set_aside_and_the_others_go_on(tmp_path: Path, b: Bench, layout: Layout) -> None:
    record(tmp_path, layout, noisy(b, 5))
    stray = Paths.of(tmp_path).log / f"{START_MS - 1000}-{'0' * 16}.done"
    stray.write_bytes(b"x" * 1000)
    (said,) = advance(tmp_path, START_MS + 40_000)
    assert "without its layout" in said
    assert stray.with_suffix(".unreadable").exists()
    assert len(query(tmp_path, layout.names[2], START_MS, START_MS + HOUR_MS).t_ms) == 5


def snapshot(value: np.ndarray) -> Snapshot:
    return Snapshot(0.0, value, np.zeros(len(value), dtype=np.uint8), np.zeros(len(value)))


def test_the_recorder_writes_beside_the_cycle_and_the_next_one_finishes_what_it_left(
    tmp_path: Path, b: Bench, layout: Layout
) -> None:
    clock, value = VirtualClock(), noisy(b, 20)
    began_ms = clock.wall_ms()
    first = Recorder(tmp_path, layout, clock)
    for i in range(10):
        first.frame(i, snapshot(value[i]))
        clock.advance(1.0)
    first.close(30.0)
    assert len(query(tmp_path, layout.names[2], began_ms, began_ms + HOUR_MS).t_ms) == 10
    second = Recorder(tmp_path, layout, clock)
    for i in range(10, 20):
        second.frame(i, snapshot(value[i]))
        clock.advance(1.0)
    second.close(30.0)
    assert second._work is not None
    assert second._work.wait(60) == 0
    assert len(list(Paths.of(tmp_path).recent.iterdir())) in (1, 2)  # the second file may have been finished in time
    found = query(tmp_path, layout.names[2], began_ms, began_ms + HOUR_MS)
    assert found.mean == pytest.approx(value[:, 2], abs=0.51 * layout.step[2])
    assert second.complaint() == ""


def test_a_full_disk_costs_frames_that_are_counted_and_leaves_whole_ones(
    tmp_path: Path, b: Bench, layout: Layout
) -> None:
    clock, value = VirtualClock(), noisy(b, 30)
    began_ms = clock.wall_ms()
    recorder = Recorder(tmp_path, layout, clock)
    recorder.frame(0, snapshot(value[0]))
    real = RealClock()
    end_s = real.now_s() + 30
    while not recorder._frames and real.now_s() < end_s:
        pass
    size = frame_log.frame_type(layout.size).itemsize
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * size + 100, before[1]))
    try:
        for i in range(1, 12):
            clock.advance(1.0)
            recorder.frame(i, snapshot(value[i]))
        while recorder._outlet.waiting and real.now_s() < end_s:
            pass
        recorder.close(30.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert recorder.dropped >= 1
    found = query(tmp_path, layout.names[2], began_ms, began_ms + HOUR_MS)
    assert len(found.t_ms) == 12 - recorder.dropped
    assert advance(tmp_path, began_ms + 2 * HOUR_MS) == []


def test_work_that_fails_is_said_and_the_frames_wait_for_it(tmp_path: Path, b: Bench, layout: Layout) -> None:
    clock, value = VirtualClock(), noisy(b, 4)
    began_ms = clock.wall_ms()
    record(tmp_path, layout, value, began_ms - 60_000)
    (tmp_path / "history.yaml").write_text("dayz: 2\n")
    recorder = Recorder(tmp_path, layout, clock)
    for i in range(3):
        _worked(recorder, i, value[i])
        clock.advance(300.0)
    assert "cannot be worked on" in recorder.complaint()
    (tmp_path / "history.yaml").unlink()
    for i in range(3, 6):
        _worked(recorder, i, value[0])
        clock.advance(300.0)
    assert recorder.complaint() == ""
    recorder.close(30.0)
    assert len(query(tmp_path, layout.names[2], began_ms - HOUR_MS, began_ms + HOUR_MS).t_ms) == 4 + 6


def _worked(recorder: Recorder, cycle: int, value: np.ndarray) -> None:
    """One frame that begins a new file, and the work that this starts, to its end."""
    before, clock, pause = recorder._work, RealClock(), threading.Event()
    end_s = clock.now_s() + 60
    recorder.frame(cycle, snapshot(value))
    while recorder._work is before:
        assert clock.now_s() < end_s
        pause.wait(0.01)
    assert recorder._work is not None
    recorder._work.wait(60)


KILLED = """
import sys
from pathlib import Path
import numpy as np
from controller.history import frame_log, layout
state = Path(sys.argv[1])
known = layout.load(state / "history" / "log", sys.argv[2])
writer = frame_log.Writer(state / "history" / "log", known)
for i in range(10**9):
    writer.append(int(sys.argv[3]) + i, i, np.full(known.size, float(i % 1000)), np.zeros(known.size, dtype=np.uint8))
    if i % 100 == 0:
        print(i, flush=True)
"""


def test_kill_9_costs_at_most_the_frame_that_was_being_written(tmp_path: Path, layout: Layout) -> None:
    paths = Paths.of(tmp_path)
    paths.make()
    layout.save(paths.log)
    lasts = []
    for run in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), layout.id, str(START_MS + run * 1_000_000)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(1 + run):
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        lasts.append(last)
    frame_log.adopt(paths.log)
    said = advance(tmp_path, START_MS + 40_000)
    assert all("torn" in x for x in said)
    found = query(tmp_path, layout.names[0], START_MS, START_MS + 10_000_000)
    for run, last in enumerate(lasts):
        mine = found.mean[(found.t_ms >= START_MS + run * 1_000_000) & (found.t_ms < START_MS + (run + 1) * 1_000_000)]
        assert len(mine) > last
        assert mine == pytest.approx(np.arange(len(mine)) % 1000, abs=layout.step[0])


def test_old_history_goes_by_age_and_by_size(tmp_path: Path, b: Bench, layout: Layout) -> None:
    for hour in range(5):
        record(tmp_path, layout, noisy(b, 20), START_MS + hour * HOUR_MS)
    now_ms = START_MS + 6 * HOUR_MS
    advance(tmp_path, now_ms)
    paths = Paths.of(tmp_path)
    assert len(list(paths.hours.iterdir())) == 5
    forget(paths, Keep(days=3.5 / 24, free_share=0.0), now_ms)
    assert len(list(paths.hours.iterdir())) == 3
    assert len(list(paths.minutes.iterdir())) == 5
    sizes = sum(p.stat().st_size for f in (paths.hours, paths.minutes) for p in f.iterdir())
    forget(paths, Keep(most_gb=0.8 * sizes / 1e9, free_share=0.0), now_ms)
    left = sorted(int(p.stem.partition("-")[0]) for p in paths.hours.iterdir())
    assert left in ([START_MS + h * HOUR_MS for h in range(3, 5)], [START_MS + 4 * HOUR_MS])
    (tmp_path / "history.yaml").write_text("days: 2\nmost_gb: 5\n")
    assert keep(tmp_path) == Keep(days=2, most_gb=5)
    (tmp_path / "history.yaml").write_text("dayz: 2\n")
    with pytest.raises(ValueError, match="dayz"):
        keep(tmp_path)


def test_who_asks_for_what_there_is_not_is_told_what_there_is(tmp_path: Path, b: Bench, layout: Layout) -> None:
    with pytest.raises(HistoryError, match="no history"):
        query(tmp_path, "p0a.power_w", START_MS, START_MS + 1000)
    record(tmp_path, layout, noisy(b, 5))
    with pytest.raises(HistoryError, match=r"p0a\.power_w"):
        query(tmp_path, "p0a.watts", START_MS, START_MS + 1000)
    with pytest.raises(HistoryError, match="no point"):
        query(tmp_path, "'; DROP TABLE x; --", START_MS, START_MS + 1000)
    nothing = query(tmp_path, "p0a.power_w", START_MS - 1_000_000, START_MS - 500_000)
    assert len(nothing.t_ms) == 0
    assert "p0a.power_w" in history_query.points(tmp_path)


@settings(max_examples=50)
@given(st.data())
def test_gaps_are_marked_and_minutes_count_only_what_is_known(data: st.DataObject) -> None:
    times = data.draw(st.integers(1, 200))
    raw = np.array(
        data.draw(st.lists(st.one_of(st.just(int(MISSING)), st.integers(-1000, 1000)), min_size=times, max_size=times)),
        dtype=np.int32,
    )[None, :]
    block = filled(raw, np.zeros(raw.shape, dtype=np.uint8))
    gone = (block.quality & NO_VALUE) != 0
    assert (gone == (raw == MISSING)).all()
    assert (block.raw[~gone] == raw[~gone]).all()
    assert (block.raw != MISSING).all()
    starts = np.arange(0, times, 60)
    out = minutes(Block(block.raw, block.quality), starts)
    for i, start in enumerate(starts):
        known = raw[0, start : start + 60][raw[0, start : start + 60] != MISSING].astype(np.int64)
        assert bool(out["quality"][0, i] & NO_VALUE) == (len(known) == 0)
        if len(known):
            assert out["low"][0, i] == known.min()
            assert out["high"][0, i] == known.max()
            assert out["mean"][0, i] == np.rint(known.mean())
