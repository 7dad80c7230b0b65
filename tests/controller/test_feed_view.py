"""The frame for people and programs, and the terminal that shows it."""

import fcntl
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TextIO

import numpy as np
import pytest
from rich.console import Console

from controller import feed, view
from controller.frames import Frames, Mode, Reason, Shed
from controller.prepare import Latest, Moment, sets_each, tables_each
from controller.steps import whole
from drivers.clock import RealClock
from drivers.supervise import Outlet
from drivers.wires import LinkHealth
from sim.lab.lockstep import LockStep
from sim.scenarios import load_scenario

LINKS = [LinkHealth("modbus 127.1.0.1", True, 35, 2, 400.0), LinkHealth("mqtt", False, 64, 64, 0.0, "refused")]
TIMING = {"step_ms": 1.5, "jitter_ms": 0.1, "jitter_ms_p99": 0.2, "late_cycles": 0}


@pytest.fixture(scope="module")
def hall() -> LockStep:
    from drivers.site.load import resolve_site

    site = resolve_site("hall")
    control = site.control.model_copy(update={"security": "none"})  # so that the envelope is what binds
    return LockStep(site.model_copy(update={"control": control}), load_scenario("nameplate"))


@pytest.fixture(scope="module")
def frames(hall: LockStep) -> dict[str, Frames]:
    """At the first cycle (nothing known yet), in the middle of the start, and capped."""
    seen = [hall.cycle()[0] for _ in range(150)]
    empty = LockStep(hall.plan.site, load_scenario("nameplate"))
    empty.wires.reports = False
    return {"first": seen[0], "start": seen[20], "capped": seen[-1], "no broker": empty.cycle()[0]}


@pytest.fixture(params=["first", "start", "capped", "no broker"])
def one(request: pytest.FixtureRequest, frames: dict[str, Frames]) -> Frames:
    return frames[request.param]


def strict(frame: dict[str, Any]) -> Any:
    """Through JSON and back; NaN and infinity are not JSON."""
    return json.loads(json.dumps(frame, allow_nan=False))


def test_a_frame_is_json(hall: LockStep, one: Frames) -> None:
    got = strict(feed.frame(hall.plan, one, LINKS, TIMING))
    assert got["racks"] == 64
    assert got["step_ms"] == 1.5
    assert sum(got["points"].values()) == hall.wires.inventory.size


def test_what_is_unknown_is_null(hall: LockStep, frames: dict[str, Frames]) -> None:
    f = frames["capped"]
    value = np.full(len(f.image.value), np.nan)
    load_w = np.where(np.arange(len(f.estimate.load_w)) < 3, np.nan, f.estimate.load_w)
    broken = replace(f, image=replace(f.image, value=value), estimate=replace(f.estimate, load_w=load_w))
    got = strict(feed.frame(hall.plan, broken, LINKS, TIMING))
    assert {x["supply_c"] for x in got["loops"]} == {None}
    assert got["feeds"][0]["load_w"] is None


def test_numbers_are_those_of_the_frames(hall: LockStep, frames: dict[str, Frames]) -> None:
    f = frames["capped"]
    got = feed.frame(hall.plan, f, LINKS, TIMING)
    assert got["caps_w"] == pytest.approx(f.orders.cap_w.sum())
    assert got["load_w"] == pytest.approx(f.estimate.load_w[-1])
    assert got["racks_capped"] == sum(got["reasons"].values()) == sum(feed.capped(f, hall.plan))
    assert got["racks_capped"] > 0
    assert got["racks_capped_without_reason"] == 0
    assert got["envelope_binds"] is True
    assert got["jobs"][0]["level"] == pytest.approx(f.proposal.level.min())
    assert any("envelope" in x["why"] for x in got["jobs"])


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words(hall: LockStep, frames: dict[str, Frames], reason: Reason) -> None:
    f = frames["capped"]
    codes, row = np.full(64, reason, dtype=np.uint8), np.full(64, -1, dtype=np.int64)
    said = feed.reason_text(hall.plan, replace(f, orders=replace(f.orders, reason=codes, row=row)), 5)
    assert said


def test_the_dearest_limits_stand_in_the_frame_and_the_first_on_the_screen(
    hall: LockStep, frames: dict[str, Frames]
) -> None:
    f = frames["capped"]
    assert feed.frame(hall.plan, f, LINKS, TIMING)["bottlenecks"] == []
    ready = Latest(tables=whole(tables_each(hall.plan, hall.state.allocate.kit, Moment(f, hall.state))))
    got = strict(feed.frame(hall.plan, f, LINKS, TIMING, latest=ready))
    first = got["bottlenecks"][0]
    assert first["name"] == "envelope"
    assert first["work_per_kw"] > 0.0
    assert len(got["bottlenecks"]) <= feed.TOP
    text = drawn(got, 200)
    assert "one more kW" in text
    assert f"it holds {first['racks']} racks" in text


def test_losses_that_are_not_secured_stand_in_the_frame_and_on_the_screen(
    hall: LockStep, frames: dict[str, Frames]
) -> None:
    f = frames["capped"]
    assert feed.frame(hall.plan, f, LINKS, TIMING)["security"] is None
    kit, at = hall.state.allocate.kit, Moment(f, hall.state)
    tables, sets = whole(tables_each(hall.plan, kit, at)), whole(sets_each(kit, at))
    later = replace(f, image=replace(f.image, now_s=f.image.now_s + 2.0))
    got = strict(feed.frame(hall.plan, later, LINKS, TIMING, latest=Latest(sets, tables)))["security"]
    assert got["losses"] == len(hall.plan.losses.cases)
    assert got["not_secured"] == len(tables.not_secured) > 0
    assert [x["id"] for x in got["worst"]] == [v.id for v in tables.verdicts[:3]]
    assert (got["age_s"], got["sets_age_s"]) == (2.0, 2.0)
    lost = replace(tables, secured=frozenset(["sub1"]))
    frame = strict(feed.frame(hall.plan, later, LINKS, TIMING, latest=Latest(sets, lost)))
    assert "no longer secured against 1 loss: sub1" in frame["alarms"]
    text = drawn(frame, 200)
    assert f"{got['losses']} losses, {got['not_secured']} not secured" in text
    assert "corrective sets 2 s old" in text


def test_what_is_shed_stands_in_the_frame(hall: LockStep, frames: dict[str, Frames]) -> None:
    f = frames["capped"]
    assert feed.frame(hall.plan, f, LINKS, TIMING)["shed"] is None
    rungs = np.where(np.arange(64) < 16, np.uint8(Shed.PAUSE), np.uint8(Shed.NONE))
    got = strict(feed.frame(hall.plan, replace(f, orders=replace(f.orders, shed=rungs)), LINKS, TIMING))
    assert got["shed"]["racks"] == 16
    assert got["shed"]["rungs"] == {"paused": 16}
    assert got["alarms"][0].startswith("CRITICAL: 16 racks shed")


def test_a_limit_is_named_with_what_narrowed_it(hall: LockStep, frames: dict[str, Frames]) -> None:
    f = frames["capped"]
    narrowed = list(f.limits.narrowed_by)
    narrowed[hall.plan.envelope_row] = "curtailment to 4.0 MW by utility"
    codes, row = np.full(64, Reason.ROW, dtype=np.uint8), np.full(64, hall.plan.envelope_row)
    f = replace(
        f, limits=replace(f.limits, narrowed_by=tuple(narrowed)), orders=replace(f.orders, reason=codes, row=row)
    )
    assert feed.reason_text(hall.plan, f, 0) == "envelope (curtailment to 4.0 MW by utility)"


def drawn(frame: dict[str, Any], width: int, truth: dict[str, Any] | None = None) -> str:
    """The screen as text."""
    console = Console(file=io.StringIO(), width=width, height=60, force_terminal=False, color_system=None)
    console.print(view.screen(frame, truth))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_the_screen_shows_what_an_operator_needs(hall: LockStep, one: Frames, width: int) -> None:
    frame = feed.frame(hall.plan, one, LINKS, TIMING)
    text = drawn(frame, width)
    assert max(len(x) for x in text.splitlines()) <= width
    for word in ("envelope", "feed1", "alarms", "because" if width == 200 else "job", "LIVE"):
        assert word in text
    if width == 200:
        assert f"{frame['racks_capped']} of 64 capped" in text
        assert "h1loop1" in text


def test_the_screen_draws_a_frame_without_data_and_without_jobs(hall: LockStep, frames: dict[str, Frames]) -> None:
    frame = feed.frame(hall.plan, frames["first"], [], {})
    unknown = dict.fromkeys(("load_w", "other_w"))
    feeds = [x | {"load_w": None} for x in frame["feeds"]]
    loops = [x | {"supply_c": None, "flow_lpm": None, "limit_w": 0.0} for x in frame["loops"]]
    text = drawn(frame | unknown | {"jobs": [], "feeds": feeds, "loops": loops}, 120)
    assert "no data" in text


def test_the_plants_truth_stands_beside_the_controllers_view(hall: LockStep, frames: dict[str, Frames]) -> None:
    frame = feed.frame(hall.plan, frames["capped"], LINKS, TIMING)
    truth = {"site_power_w": 5_612_300.0, "cooling_w": 4e5, "losses_w": 2e5}
    assert "5.61" in drawn(frame, 160, truth)


def test_one_line_a_second_fits_a_log(hall: LockStep, one: Frames) -> None:
    text = view.line(feed.frame(hall.plan, one, LINKS, TIMING))
    assert "\n" not in text
    assert "live" in text


def test_json_lines_go_out_whole(hall: LockStep, one: Frames, capfd: pytest.CaptureFixture[str]) -> None:
    frame = feed.frame(hall.plan, one, LINKS, TIMING)
    with view.sink(as_json=True) as sink:
        sink(frame)
    assert json.loads(capfd.readouterr().out)["cycle"] == frame["cycle"]


@contextmanager
def paused() -> Iterator[tuple[TextIO, int]]:
    """A pipe that nobody reads and that takes little; its writing and its reading end."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with open(writing, "w") as file:
        try:
            yield file, reading
        finally:
            with suppress(OSError):
                os.close(reading)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_paused_reader_holds_nobody_up_and_sees_the_newest_frames(
    hall: LockStep, frames: dict[str, Frames], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    frame = feed.frame(hall.plan, frames["capped"], LINKS, TIMING)
    with paused() as (file, reading):
        monkeypatch.setattr(sys, "stdout", file)
        with view.sink(as_json) as sink:
            for cycle in range(400):  # some 100 times what the pipe takes; a sink that waits would never end
                sink(frame | {"cycle": cycle})
            got = b""
            while b" 399 " not in got and b'"cycle":399' not in got:
                got += os.read(reading, 1 << 16)
        assert len(got.splitlines()) < 200


def test_a_reader_that_never_comes_back_does_not_keep_the_process_from_ending(
    hall: LockStep, frames: dict[str, Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = feed.frame(hall.plan, frames["capped"], LINKS, TIMING)
    with paused() as (file, _):
        monkeypatch.setattr(sys, "stdout", file)
        before_s = RealClock().now_s()
        with view.sink(as_json=True) as sink:
            for _ in range(20):
                sink(frame)
        assert RealClock().now_s() - before_s < 5.0


def test_a_reader_that_has_gone_is_no_error(
    hall: LockStep, frames: dict[str, Frames], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frame = feed.frame(hall.plan, frames["capped"], LINKS, TIMING)
    with paused() as (file, reading):
        os.close(reading)
        monkeypatch.setattr(sys, "stdout", file)
        with view.sink(as_json=True) as sink:
            for _ in range(20):
                sink(frame)
    assert caplog.text == ""


def test_a_frame_that_cannot_be_drawn_costs_itself_only(caplog: pytest.LogCaptureFixture) -> None:
    shown = list[str]()

    @contextmanager
    def opening() -> Iterator[Callable[[str], object]]:
        yield lambda x: shown.append(str(1 / len(x)))

    outlet: Outlet[str] = Outlet(opening, depth=3)
    outlet.put("")
    outlet.put("ab")
    assert outlet.close()
    assert shown == ["0.5"]
    assert "could not be shown" in caplog.text


def test_of_all_wires_those_in_trouble_are_named_and_the_rest_counted(
    hall: LockStep, frames: dict[str, Frames]
) -> None:
    well = [LinkHealth(f"gw{i}", True, 35, 0, 400.0) for i in range(300)]
    ill = [LinkHealth(f"bad{i}", True, 35, i + 1, 400.0) for i in range(100)]
    got = feed.frame(hall.plan, frames["capped"], [*well, *ill, LINKS[1]], TIMING)
    assert (got["wires"], got["wires_down"]) == (401, 1)
    assert [x["name"] for x in got["links"][:2]] == ["mqtt", "bad99"]
    assert len(got["links"]) == feed.ILL_TOP
    assert feed.frame(hall.plan, frames["capped"], well, TIMING)["links"] == []


def test_while_racks_are_paced_the_envelope_is_not_what_binds(hall: LockStep, frames: dict[str, Frames]) -> None:
    f = frames["capped"]
    reason = f.orders.reason.copy()
    rack = np.flatnonzero(feed.capped(f, hall.plan))[0]
    reason[rack] = Reason.PACE
    got = feed.frame(hall.plan, replace(f, orders=replace(f.orders, reason=reason)), LINKS, TIMING)
    assert (got["racks_paced"], got["envelope_binds"]) == (1, False)


@pytest.mark.parametrize(("share", "style"), [(0.5, "grey70"), (0.98, "yellow"), (1.2, "red")])
def test_a_bar_is_grey_until_it_matters(share: float, style: str) -> None:
    text = view.bar(share)
    assert str(text.style or text.spans[0].style) == style
    assert len(text.plain) < view.FULL + 12


def test_shadow_is_shown_as_such(hall: LockStep) -> None:
    shadow = LockStep(hall.plan.site, load_scenario("nameplate"), mode=Mode.SHADOW)
    frame = feed.frame(shadow.plan, shadow.cycle()[0], LINKS, TIMING)
    assert "SHADOW" in drawn(frame, 120)
    assert "mode is SHADOW" in frame["alarms"]
