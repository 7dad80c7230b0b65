"""The figures of a demo, from lines made by hand, and once from the demo itself."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_run import MAIN, on_free_ports

from drivers.site.write import write_site
from sim.lab.score import Score

ENVELOPE_W = 10e6
ASKED = [
    "cycles",
    "late_cycles",
    "cycle_ms_p50",
    "cycle_ms_p99",
    "jitter_ms_p99",
    "envelope_mw",
    "peak_mw",
    "mean_mw",
    "handed_out_share",
    "drawn_share",
    "seconds_over_envelope",
    "racks",
    "racks_capped",
    "points_per_s",
    "caps_written",
    "trips",
]
FRAME: dict[str, Any] = {
    "envelope_w": ENVELOPE_W,
    "envelope_binds": False,
    "racks": 64,
    "racks_paced": 0,
    "racks_capped": 0,
    "racks_capped_without_reason": 0,
    "points_per_s": 100.0,
    "caps_written": 0,
    "step_ms": 2.0,
    "jitter_ms": 0.5,
    "late_cycles": 0,
}


def truth(power_w: float, peak_w: float | None = None, handed_w: float = 0.0, trips: int = 0) -> dict[str, Any]:
    peak_w = power_w if peak_w is None else peak_w
    return {"site_mean_w": power_w, "site_peak_w": peak_w, "handed_out_w": handed_w, "trips": trips}


def scored(*seconds: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """The summary of seconds, each the frame's difference from `FRAME` and the truth that follows it."""
    score = Score(ENVELOPE_W)
    for cycle, (frame, line) in enumerate(seconds):
        score.take_frame(FRAME | {"cycle": cycle} | frame)
        score.take_truth(line)
    return score.summary()


def test_of_nothing_seen_nothing_is_claimed() -> None:
    got = Score(ENVELOPE_W).summary()
    assert set(ASKED) <= set(got)
    assert (got["cycles"], got["caps_written"], got["trips"], got["seconds_over_envelope"]) == (0, 0, 0, 0)
    for name in ("late_cycles", "cycle_ms_p50", "jitter_ms_p99", "handed_out_share", "drawn_share", "racks"):
        assert got[name] is None


def test_shares_are_means_over_the_seconds_in_which_the_envelope_binds() -> None:
    binds = {"envelope_binds": True}
    got = scored(
        ({}, truth(4e6, handed_w=5e6)),
        (binds, truth(9e6, handed_w=9.8e6)),
        (binds, truth(8e6, handed_w=10.0e6)),
        ({"racks_paced": 3}, truth(9e6, handed_w=7e6)),
    )
    assert got["handed_out_share"] == pytest.approx(0.99)
    assert got["drawn_share"] == pytest.approx(0.85)
    assert (got["seconds_envelope_binds"], got["seconds_paced"]) == (2, 1)
    assert got["mean_mw"] == pytest.approx(7.5)
    assert got["envelope_mw"] == 10.0


def test_what_the_controller_says_of_the_envelope_moves_no_share() -> None:
    """A controller that believes in a higher or a lower envelope is measured against the site's."""
    for said_w in (5e6, 20e6):
        got = scored(({"envelope_w": said_w, "envelope_binds": True}, truth(9e6, peak_w=10.1e6, handed_w=9.9e6)))
        assert got["handed_out_share"] == pytest.approx(0.99)
        assert got["seconds_over_envelope"] == 1


def test_a_second_is_over_when_a_quarter_of_it_was() -> None:
    got = scored(
        ({}, truth(9.9e6, peak_w=10.01e6)),
        ({}, truth(9.9e6, peak_w=10e6)),
        ({}, truth(9.0e6)),
        ({}, truth(10.2e6, peak_w=10.6e6)),
    )
    assert got["seconds_over_envelope"] == 2
    assert got["peak_mw"] == pytest.approx(10.6)


def test_cycles_caps_and_trips_add_up() -> None:
    got = scored(
        *(
            ({"step_ms": float(i), "jitter_ms": i / 10, "caps_written": 64, "racks_capped": i}, truth(1e6, trips=i > 6))
            for i in range(101)
        )
    )
    assert (got["cycles"], got["caps_written"], got["trips"], got["racks_capped"]) == (101, 6464, 1, 100)
    assert (got["cycle_ms_p50"], got["cycle_ms_p99"]) == (50.0, 99.0)
    assert got["jitter_ms_p99"] == pytest.approx(9.9)


def test_late_cycles_of_a_controller_that_died_still_count() -> None:
    line = truth(1e6)
    got = scored(({"late_cycles": 2}, line), ({"late_cycles": 3}, line), ({"cycle": 0, "late_cycles": 1}, line))
    assert got["late_cycles"] == 4


@pytest.mark.timeout(150)
@pytest.mark.usefixtures("warm_kernels")
async def test_the_demo_ends_with_a_summary_of_everything_that_was_promised(tmp_path: Path) -> None:
    site = on_free_ports("hall")
    write_site(site, tmp_path / "site")
    words = (
        "demo",
        "--site",
        str(tmp_path / "site"),
        "--scenario",
        "nameplate",
        "--for",
        "5",
        "--json",
        "--listen",
        "none",
    )
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, said = await asyncio.wait_for(demo.communicate(), 120)
    finally:
        if demo.returncode is None:
            demo.kill()
    assert demo.returncode == 0, said.decode()
    got = json.loads(out)
    assert set(ASKED) <= set(got)
    assert all(got[name] is not None for name in ASKED if not name.endswith("_share"))
    assert 4 <= got["cycles"] <= 10
    assert got["racks"] == 64
    assert got["points_per_s"] > 0
    assert got["envelope_mw"] == pytest.approx(site.control.envelope_w / 1e6)
    assert 0.0 < got["mean_mw"] <= got["peak_mw"]
    assert (got["trips"], got["racks_capped_without_reason"]) == (0, 0)
    assert b"true" in said  # a line a second on standard error
