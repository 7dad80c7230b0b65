"""The report's figures against a tale whose figures are known, and the commands as a tired operator types them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.journal import Entry, Journal, body, open_read
from controller.report import tale
from controller.times import iso, parse_ms

START_MS = 1_767_225_600_000
RUN = CliRunner()


def orders(t_s: float, **more: Any) -> tuple[int, str, bytes]:
    """A cycle's record without changed caps."""
    import zlib

    head = {
        "cycle": 1, "mode": "live", "envelope_w": 100e6, "load_w": 90e6, "caps_w": 80e6, "demand_w": 95e6, "capped": 10,
        "work": 0.9, "bound": [["ups u1", 7], ["envelope", 3]], "renewed": 8, "changed": 0, "rows": {},
    } | more  # fmt: skip
    return START_MS + round(1000 * t_s), "orders", zlib.compress(body.text(head) + b"\n")


def told(state: Path, records: list[tuple[int, str, bytes]], seconds: int = 600) -> tale.Tale:
    """The tale of a journal."""
    journal = Journal(state)
    journal.append(records)
    journal.close()
    span = START_MS, START_MS + 1000 * seconds
    return tale.read(open_read(state).entries(*span), *span)


def alarm(t_s: float, was: str, now: str, by: str = "") -> tuple[int, str, bytes]:
    fields = {"id": "shed/site", "priority": "critical", "text": "x", "was": was, "now": now, "by": by, "first_out": 0}
    return START_MS + round(1000 * t_s), "alarm", body.text(fields)


def test_figures_of_a_tale_that_is_known(tmp_path: Path) -> None:
    """90 MW but 105 MW from 100 s to 130 s, a fall of 60 MW in two minutes from 300 s on; a gap from 500 s to 560 s."""
    records = []
    for t in [*range(500), *range(560, 600)]:
        load = 105e6 if 100 <= t < 130 else 90e6 - 0.5e6 * max(0, min(t - 300, 120))
        records.append(orders(t, load_w=load, work=0.5 if t >= 560 else 1.0))
    f = tale.figures(told(tmp_path, records))
    assert f["recorded_share"] == pytest.approx(540 / 600)
    assert f["within_share"] == pytest.approx(1 - 30 / 540)
    assert f["over_longest_s"] == pytest.approx(30)
    assert f["over_mw_max"] == pytest.approx(5.0)
    assert f["ramp_down_mw_per_min"] == pytest.approx(30.0, rel=0.01)
    assert f["ramp_up_mw_per_min"] == pytest.approx(15.0, rel=0.01)
    assert f["work_mean"] == pytest.approx((500 + 20) / 540)
    assert f["work_lost_share_hours"] == pytest.approx(20 / 3600)
    assert f["capped_rack_hours"] == pytest.approx(5400 / 3600)


def test_limits_that_bound_and_alarms_are_added_up(tmp_path: Path) -> None:
    records = [orders(t) for t in range(100)]
    records += [alarm(10, "normal", "unacknowledged"), alarm(20, "unacknowledged", "acknowledged", "ann")]
    records += [alarm(50, "acknowledged", "normal"), alarm(570, "normal", "unacknowledged")]
    found = told(tmp_path, sorted(records))
    assert found.bound == {"ups u1": 700, "envelope": 300}
    (life,) = tale.alarms(found)
    assert (life.raised, life.acked_by) == (2, "ann")
    assert life.active_s == pytest.approx(70.0)


def test_nothing_known_is_no_figure_and_no_error(tmp_path: Path) -> None:
    f = tale.figures(told(tmp_path, [(START_MS, "act", b"{}")]))
    assert np.isnan(f["within_share"])
    assert f["recorded_share"] == 0.0
    blind = tale.figures(tale.read([Entry(1, START_MS, *orders(0, load_w=None)[1:], b"")], START_MS, START_MS + 1000))
    assert np.isnan(blind["load_mw_mean"])


def test_a_record_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    found = told(tmp_path, [(START_MS, "orders", b"rubbish"), (START_MS, "alarm", b"["), orders(1)])
    assert found.unreadable == 2
    assert len(found.t_ms) == 1


def test_bins_hold_means_and_gaps(tmp_path: Path) -> None:
    found = told(tmp_path, [orders(t, load_w=t * 1e6) for t in range(300)])
    values, bin_s = tale.bins(found, "load_w", 10)
    assert bin_s == 60
    assert values[:5] == pytest.approx([(29.5 + 60 * i) * 1e6 for i in range(5)])
    assert values[5:] == [None] * 5


def test_times_as_people_give_them() -> None:
    now_ms = parse_ms("2026-11-25T06:00", 0)
    assert iso(now_ms) == "2026-11-25T06:00:00.000Z"
    assert parse_ms("now", now_ms) == now_ms
    assert iso(parse_ms("-8h", now_ms)) == "2026-11-24T22:00:00.000Z"
    assert iso(parse_ms("2026-11-25T08:00+02:00", 0)) == "2026-11-25T06:00:00.000Z"
    with pytest.raises(ValueError, match="-8h"):
        parse_ms("yesterday", now_ms)


def run(state: Path, *args: str) -> tuple[int, str]:
    found = RUN.invoke(app, [*args, "--state", str(state)])
    return found.exit_code, found.output


def test_the_journal_s_commands(tmp_path: Path) -> None:
    start = {"site": "hall", "epoch": 1, "process": 7, "racks": ["r1"]}
    evil = {"by": "eve", "why": "\x1b[2J<script>", "act": "hold", "rack": "r1"}
    told(tmp_path, [(START_MS, "start", body.text(start)), orders(1), (START_MS + 2, "act", body.text(evil))])
    status, text = run(tmp_path, "journal", "verify", "hall")
    assert status == 0
    assert text.startswith("whole: 3 records from 1, head 3:")
    status, text = run(tmp_path, "journal", "show", "hall")
    assert status == 0
    assert "load 90.00 MW of 100.00 MW" in text
    assert "\x1b" not in text
    status, text = run(tmp_path, "journal", "export", "hall")
    assert [json.loads(line)["kind"] for line in text.splitlines()] == ["start", "orders", "act"]
    when = ("--kind", "act", "--from", iso(START_MS + 1))
    assert [json.loads(line)["kind"] for line in run(tmp_path, "journal", "export", "hall", *when)[1].splitlines()] == [
        "act"
    ]
    status, text = run(tmp_path, "report", "hall", "--from", iso(START_MS), "--to", "2026-01-01T00:10", "--out", "-")
    assert status == 0
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    (tmp_path / "journal" / "head").write_text("{}")
    status, text = run(tmp_path, "journal", "verify", "hall")
    assert status == 1
    assert "makes no sense" in text


def test_an_export_names_racks_by_the_start_before_it(tmp_path: Path) -> None:
    import zlib

    arrays = [np.array([x], dtype=kind) for x, (_, kind) in zip((1, 5000, 1, 3, 0), body.COLUMNS, strict=True)]
    packed = zlib.compress(
        body.text({"changed": 1, "rows": {"3": "ups u1"}}) + b"\n" + b"".join(x.tobytes() for x in arrays)
    )
    start = START_MS, "start", body.text({"racks": ["r0", "r1"]})
    told(tmp_path, [start, (START_MS + 5000, "orders", packed)])
    for more in ((), ("--kind", "orders"), ("--from", iso(START_MS + 1000))):
        line = run(tmp_path, "journal", "export", "hall", *more)[1].splitlines()[-1]
        assert json.loads(line)["caps"] == [["r1", 5000, "row", "ups u1", 0]]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("journal", "show", "hall"), "no controller has run on this state directory"),
        (("journal", "verify", "hall"), "there is no journal"),
        (("report", "hall"), "no controller has run"),
        (("history", "hall", "x.power_w"), "no history"),
        (("history", "hall", "x.power_w", "--from", "tomorrow"), "give 2026-11-25T06:00"),
        (("report", "hall", "--from", "-1h", "--to", "-2h"), "is no time"),
        (("report", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_done_says_why(tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    status, text = run(tmp_path, *args)
    assert status == 1
    assert says in text


def test_the_list_of_alarms_leaves_as_csv(tmp_path: Path) -> None:
    status, text = run(tmp_path, "journal", "alarms", "hall")
    assert (status, text) == (0, "id\n")
