"""The tick: on its grid, honest to the watchdog, alone on its machine, and leaving safe caps behind."""

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_control import bench
from helpers_service import Event, Rig

from controller import acts, feed, process, service
from controller.frames import Mode
from controller.process import ServiceError
from drivers.clock import RealClock


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    monkeypatch.setattr(service, "perf_s", rig.clock.now_s)  # a busy machine is no slow cycle here
    yield rig
    gc.unfreeze()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """A notify socket as systemd makes it, read all the time; ends it and gives what it has received."""
    path, heard = tmp_path / "notify", list[str]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))

        def listen() -> None:
            while (message := sock.recv(100)) != b"END":
                heard.append(message.decode())

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()

        def end() -> list[str]:
            process.notify("END")
            thread.join(2.0)
            return heard

        yield end


def fail() -> None:
    raise RuntimeError("the instruments are on fire")


async def test_ticks_stand_on_a_grid_of_seconds(rig: Rig) -> None:
    await rig.run(20)
    assert np.diff(rig.building.read_at_s[:20]) == pytest.approx(np.ones(19))
    assert [f["cycle"] for f in rig.frames[:20]] == list(range(20))
    assert rig.frames[-1]["late_cycles"] == 0


async def test_late_cycles_are_counted_and_never_caught_up(rig: Rig) -> None:
    """The fifth cycle takes 3.4 s: three ticks are gone, the next one stands on the old grid."""
    rig.at(5, lambda: rig.clock.advance(3.4))
    await rig.run(12)
    assert [round(f["jitter_ms"]) for f in rig.frames[4:7]] == [0, 3000, 0]  # against the tick that was planned
    steps = np.diff(rig.building.read_at_s[:12])
    assert steps[:4] == pytest.approx(1.0)
    assert steps[4] == pytest.approx(4.0)
    assert steps[5:] == pytest.approx(1.0)
    assert rig.frames[-1]["late_cycles"] == 3


async def test_the_watchdog_is_fed_once_a_good_cycle(rig: Rig, systemd: Callable[[], list[str]]) -> None:
    await rig.run(10)
    said = systemd()
    assert said[0] == "READY=1"
    assert said[-1] == "STOPPING=1"
    assert said.count("WATCHDOG=1") == len(rig.frames)


async def test_a_failed_cycle_feeds_no_watchdog_writes_nothing_and_ends_nothing(
    rig: Rig, systemd: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    for reading in (6, 7, 11):
        rig.at(reading, fail)
    await rig.run(20)
    assert rig.building.readings >= 20
    assert systemd().count("WATCHDOG=1") == rig.building.readings - 3
    assert len(rig.building.sent) == rig.building.readings - 3
    assert rig.frames[-1]["failed_cycles"] == 3
    assert "the instruments are on fire" in caplog.text


@pytest.mark.parametrize("broken", ["health", "sink", "feed"])
async def test_what_only_shows_the_cycle_cannot_end_it(
    rig: Rig,
    systemd: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    def burst(*_: object) -> None:
        raise OSError("the display is on fire")

    if broken == "health":
        monkeypatch.setattr(rig.building, "health", burst)
    elif broken == "sink":
        monkeypatch.setattr(rig.service, "_sink", burst)
    else:
        monkeypatch.setattr(feed, "frame", burst)
    await rig.run(10)
    assert systemd().count("WATCHDOG=1") == rig.building.readings >= 10
    assert rig.frames == []
    assert sum(n for _, n in rig.building.sent) > 0
    assert "the display is on fire" in caplog.text


async def test_wires_that_refuse_a_command_fail_the_cycle_and_not_the_ramp_of_the_end(
    rig: Rig, systemd: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send = rig.building.send

    def burst(_: object) -> int:
        monkeypatch.setattr(rig.building, "send", send)
        raise OSError("no buffer")

    rig.at(6, lambda: monkeypatch.setattr(rig.building, "send", burst))
    await rig.run(10, leave_s=60.0)
    assert systemd().count("WATCHDOG=1") == rig.building.readings - 1
    assert (rig.building.holder.cap_w <= 60000).all()
    assert "no buffer" in caplog.text


async def test_acts_that_cannot_be_read_leave_the_last_ones_in_force_and_are_said(rig: Rig) -> None:
    path, site = rig.folder / acts.FILE, rig.bench.site
    rig.at(3, lambda: acts.append(rig.folder, site, rig.clock, "ann", "test", {"act": "envelope", "mw": 0.3}))

    def spoil() -> None:
        path.unlink()
        path.mkdir()  # opening it is an error
        for i in range(200):
            (path / f"{i}").touch()

    rig.at(6, spoil)
    await rig.run(12)
    assert len(rig.frames) >= 12
    assert all("by ann" in f["envelope_by"] for f in rig.frames[4:12])
    assert any("cannot be read" in x for x in rig.frames[9]["alarms"])


async def test_a_refused_act_is_said_for_a_while(rig: Rig) -> None:
    rig.at(3, lambda: (rig.folder / acts.FILE).write_bytes(b"envelope 200, please\n"))
    await rig.run(12)
    assert not any("refused" in x for x in rig.frames[1]["alarms"])
    assert any("1 acts refused" in x and "200, please" in x for x in rig.frames[8]["alarms"])


async def test_from_live_to_shadow_the_leases_are_given_back_first(rig: Rig) -> None:
    """75 kW to 60 kW on four racks at 4 kW/s takes 15 s; only then it is shadow, and silent."""

    def ask(mode: str) -> Event:
        act = {"act": "mode", "mode": mode}
        return lambda: acts.append(rig.folder, rig.bench.site, rig.clock, "ann", "test", act)

    rig.at(10, ask("shadow"))
    held_w = list[int]()
    rig.at(50, lambda: held_w.extend(rig.building.holder.cap_w.tolist()))
    await rig.run(50)
    modes = [f["mode"] for f in rig.frames]
    assert modes[9] == "live"
    turned = modes.index("shadow")
    assert set(modes[10:turned]) == {"off"}
    assert 15 <= turned - 10 <= 25
    assert set(modes[turned:]) == {"shadow"}
    total_w = [f["caps_w"] for f in rig.frames[10:turned]]
    assert (np.diff(total_w) >= -4e3 - 1.0).all()
    assert all(w <= 60000 for w in held_w)
    assert sum(n for t, n in rig.building.sent[turned:]) == 0


async def test_started_as_shadow_it_never_sends_not_even_at_its_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Mode.SHADOW)
    await rig.run(10, leave_s=60.0)
    gc.unfreeze()
    assert {f["mode"] for f in rig.frames} == {"shadow"}
    assert sum(n for _, n in rig.building.sent) == 0
    assert rig.clock.now_s() < 1013.0


async def test_racks_of_another_controller_are_said_and_not_waited_for(rig: Rig) -> None:
    def take() -> None:
        rig.building.deaf = True
        rig.building.holder.epoch[:] = rig.building.holder.epoch + 5
        rig.building.holder.expiry_s[:] = np.inf

    rig.at(10, take)
    await rig.run(20, leave_s=60.0)
    assert any("4 racks obey another controller" in x for x in rig.frames[14]["alarms"])
    assert rig.clock.now_s() < 1025.0


async def test_a_slow_cycle_feeds_no_watchdog(
    rig: Rig, systemd: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking = iter(np.arange(1000) * (service.STEP_BUDGET_S + 0.01))
    monkeypatch.setattr(service, "perf_s", lambda: float(next(ticking)))
    await rig.run(5)
    assert "WATCHDOG=1" not in systemd()
    assert len(rig.frames) >= 5


async def test_nobody_listening_is_no_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await rig.run(3)
    assert len(rig.frames) >= 3


async def test_a_clean_stop_ramps_to_the_safe_caps_and_is_silent(rig: Rig) -> None:
    """75 kW to 60 kW on four racks at 4 kW/s: some 15 s, then nothing more is sent and nothing rises."""
    before = rig.building.holder.cap_w.sum()
    await rig.run(10, leave_s=60.0)
    holder, ramp_s = rig.building.holder, (before - 4 * 60e3) / 4e3
    assert (holder.cap_w <= 60000).all()
    assert ramp_s <= rig.clock.now_s() - 1010.0 <= ramp_s + 8.0
    assert rig.building.stopped
    total = [f["caps_w"] for f in rig.frames[10:]]
    assert (np.diff(total) >= -4e3 - 1.0).all()
    later = holder.step(rig.clock.now_s() + 100.0)
    assert (later <= 60000).all()


async def test_agents_that_confirm_nothing_do_not_keep_it_from_leaving(rig: Rig) -> None:
    def deafen() -> None:
        rig.building.deaf = True
        rig.building.holder.expiry_s[:] = np.inf

    rig.at(9, deafen)
    await rig.run(10, leave_s=20.0)
    assert rig.clock.now_s() == pytest.approx(1010.0 + 20.0, abs=2.0)
    assert rig.building.stopped


async def test_an_act_is_taken_up_within_a_cycle(rig: Rig) -> None:
    site = rig.bench.site
    rig.at(5, lambda: acts.append(rig.folder, site, rig.clock, "ann", "test", {"act": "envelope", "mw": 0.3}))
    await rig.run(10)
    assert [bool(f["envelope_by"]) for f in rig.frames[:4]] == [False] * 4
    assert all(f["envelope_by"] for f in rig.frames[5:])
    assert "by ann" in rig.frames[7]["envelope_by"]


async def test_each_start_has_a_higher_epoch(tmp_path: Path) -> None:
    epochs = []
    for _ in range(3):
        rig = Rig(tmp_path)
        await rig.run(8)
        epochs.append(int(rig.building.holder.epoch[0]))
    gc.unfreeze()
    assert epochs == sorted(set(epochs))


async def test_a_restart_takes_over_the_caps_it_finds(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    await first.run(30)
    second = Rig(tmp_path)
    second.building.holder = first.building.holder
    second.clock.advance(first.clock.now_s() - second.clock.now_s())
    held = first.building.holder.cap_w.copy()
    await Rig.run(second, 5)
    gc.unfreeze()
    assert second.building.holder.cap_w == pytest.approx(held, rel=0.02)


async def test_cancelling_closes_the_wires(rig: Rig) -> None:
    task = asyncio.ensure_future(rig.service.run())
    rig.at(5, lambda: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rig.building.stopped


def test_a_second_controller_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with process.lock(tmp_path):
        with pytest.raises(ServiceError, match=f"process {os.getpid()}"):
            process.lock(tmp_path)
        with pytest.raises(ServiceError, match="already runs"):
            service.run(bench().site, RealClock(), Mode.SHADOW, print, tmp_path)
    process.lock(tmp_path).close()


@pytest.mark.parametrize("abstract", [False, True])
def test_both_kinds_of_notify_sockets_are_spoken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"headroom-test-{os.getpid()}" if abstract else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        process.notify("READY=1")
        sock.settimeout(1.0)
        assert sock.recv(100) == b"READY=1"
