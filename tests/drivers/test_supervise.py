"""Supervised tasks come back, more slowly each time, and go away when told; the wheel keeps its calls apart."""

import asyncio

import pytest

from drivers.clock import RealClock, VirtualClock
from drivers.modbus.wheel import Wheel
from drivers.supervise import Backoff, Supervisor

QUICK = Backoff(first_s=0.001, longest_s=0.004, jitter=0.0)


async def turns(n: int) -> None:
    """Give other tasks n turns."""
    clock = RealClock()
    for _ in range(n):
        await clock.sleep_until(clock.now_s() + 0.001)


async def test_a_failing_task_is_started_again_and_its_error_kept() -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) < 4:
            raise OSError("no such wire")
        await asyncio.Event().wait()

    supervisor = Supervisor(RealClock(), QUICK)
    watched = supervisor.spawn("wire", work)
    await turns(60)
    assert len(runs) == watched.started == 4
    assert watched.failures == 3
    assert watched.last_error == "OSError: no such wire"
    supervisor.beat("wire")
    assert watched.failures == 0
    assert watched.last_success_s > 0
    await supervisor.stop()
    assert watched.task is not None
    assert watched.task.cancelled()
    assert supervisor.tasks == ()


async def test_a_task_that_ends_or_cancels_itself_is_started_again() -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) == 2:
            raise asyncio.CancelledError

    supervisor = Supervisor(RealClock(), QUICK)
    supervisor.spawn("a", work)
    await turns(40)
    assert len(runs) > 3
    with pytest.raises(ValueError, match="supervised already"):
        supervisor.spawn("a", work)
    await supervisor.stop()


async def test_a_cancel_from_outside_ends_the_task() -> None:
    supervisor = Supervisor(RealClock(), QUICK)
    watched = supervisor.spawn("a", asyncio.Event().wait)  # type: ignore[arg-type]  # its True is of no interest
    await turns(2)
    assert watched.task is not None
    watched.task.cancel()
    await turns(3)
    assert watched.task.cancelled()
    await supervisor.stop()


def test_backoff_doubles_up_to_its_longest() -> None:
    backoff = Backoff(first_s=0.5, longest_s=3.0, jitter=0.0)
    assert [backoff.wait_s(n) for n in (1, 2, 3, 4, 999)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    jittered = [Backoff(first_s=1.0, longest_s=9.0, jitter=0.3).wait_s(1) for _ in range(50)]
    assert all(0.7 <= w <= 1.0 for w in jittered)
    assert len(set(jittered)) > 1


async def test_the_wheel_fires_in_order_and_survives_a_call_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    wheel = Wheel(clock, 0.02)
    fired: list[tuple[str, int]] = []

    def call(name: str) -> None:
        fired.append((name, wheel.tick))
        if name == "b":
            raise RuntimeError("b fails")

    wheel.at(5, call, "c")
    wheel.at(2, call, "b")
    wheel.at(2, call, "b2")
    wheel.after(0.05, call, "d")
    wheel.at(0, call, "a")
    turning = asyncio.create_task(wheel.run())
    for _ in range(40):
        await clock.sleep_until(clock.now_s())
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)
    assert fired[:3] == [("a", 1), ("b", 2), ("b2", 2)]
    assert [name for name, _ in fired] == ["a", "b", "b2", "d", "c"]
    assert "a timed call failed" in caplog.text


async def test_a_long_stall_shifts_the_wheel_instead_of_firing_everything_at_once() -> None:
    clock = VirtualClock()
    wheel = Wheel(clock, 0.02)
    beats: list[float] = []

    def beat(_: None) -> None:
        beats.append(clock.now_s())
        wheel.at(wheel.tick + 50, beat, None)

    wheel.at(50, beat, None)
    clock.advance(100.0)
    turning = asyncio.create_task(wheel.run())
    for _ in range(30):
        await clock.sleep_until(clock.now_s())
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)
    assert len(beats) == 1
    assert wheel.lost_s == pytest.approx(99.0, abs=0.5)
