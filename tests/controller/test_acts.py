"""What operators ask for: written down to outlive a kill, and no line of it can stop the controller."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from helpers_site import tiny_site

from controller import act_kinds, acts
from controller.acts import ActError, Acts
from controller.frames import Mode, Requests
from drivers.clock import VirtualClock

SITE = tiny_site()  # envelope 0.33 MW, racks r1 to r4
FULL: dict[str, Any] = {"act": "envelope", "mw": 0.2}


def write(folder: Path, act: dict[str, Any]) -> None:
    acts.append(folder, SITE, VirtualClock(), "ann", "drill", act)


def test_what_was_written_is_there_for_the_running_and_the_next_controller(tmp_path: Path) -> None:
    running = Acts(tmp_path, SITE)
    assert running.poll() == Requests()
    write(tmp_path, FULL)
    write(tmp_path, {"act": "hold", "rack": "r2"})
    write(tmp_path, {"act": "hold", "rack": "r3"})
    write(tmp_path, {"act": "mode", "mode": "hold"})
    expected = Requests(Mode.HOLD, 200e3, "ann", frozenset({"r2", "r3"}))
    assert running.poll() == expected
    assert Acts(tmp_path, SITE).poll() == expected
    write(tmp_path, {"act": "release", "rack": "r2"})
    write(tmp_path, {"act": "envelope", "mw": None})
    assert running.poll() == Requests(Mode.HOLD, None, "ann", frozenset({"r3"}))


def test_each_act_says_when_who_and_why(tmp_path: Path) -> None:
    write(tmp_path, FULL)
    (line,) = (tmp_path / acts.FILE).read_text().splitlines()
    said = json.loads(line)
    assert len(said.pop("id")) > 8
    assert said == {"at_ms": VirtualClock().wall_ms(), "by": "ann", "why": "drill"} | FULL


def test_who_holds_what_is_known_until_it_is_released(tmp_path: Path) -> None:
    running = Acts(tmp_path, SITE)
    write(tmp_path, {"act": "hold", "rack": "r2"})
    write(tmp_path, {"act": "mode", "mode": "hold"})
    running.poll()
    assert running.said == {"r2": "by ann: drill", "mode": "by ann: drill"}
    acts.append(tmp_path, SITE, VirtualClock(), "\x1b[2Jbob\n", "x" * 500, {"act": "hold", "rack": "r3"})
    write(tmp_path, {"act": "release", "rack": "r2"})
    running.poll()
    assert "r2" not in running.said
    assert running.said["r3"].startswith("by [2Jbob: xxx")
    assert len(running.said["r3"]) < 200
    assert running.said["r3"].isprintable()
    with (tmp_path / acts.FILE).open("a") as file:
        file.write('{"act": "hold", "rack": "r1"}\n')
    running.poll()
    assert running.said["r1"] == "by somebody"


def test_a_torn_last_line_waits_for_its_end(tmp_path: Path) -> None:
    """Power failed in the middle of a write, or we read while another process writes."""
    path = tmp_path / acts.FILE
    line = json.dumps(FULL).encode()
    path.write_bytes(line[:9])
    running = Acts(tmp_path, SITE)
    assert running.poll() == Requests()
    with path.open("ab") as file:
        file.write(line[9:])
    assert running.poll() == Requests()
    with path.open("ab") as file:
        file.write(b"\n")
    assert running.poll().envelope_w == 200e3
    assert running.refused == []


def test_a_torn_line_followed_by_an_act_costs_only_itself_and_is_named(tmp_path: Path) -> None:
    (tmp_path / acts.FILE).write_bytes(b'{"act":"envel\n')
    write(tmp_path, FULL)
    running = Acts(tmp_path, SITE)
    assert running.poll().envelope_w == 200e3
    assert len(running.refused) == 1
    assert "envel" in running.refused[0]


BAD_LINES = [
    b"not json",
    b"[1, 2]",
    b"{}",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"act":"envelope"}',
    b'{"act":"envelope","mw":NaN}',
    b'{"act":"envelope","mw":true}',
    b'{"act":"envelope","mw":"0.2"}',
    b'{"act":"envelope","mw":[0.2]}',
    b'{"act":"envelope","mw":1e999}',
    b'{"act":"mode","mode":[]}',
    b'{"act":"mode","mode":{}}',
    b'{"act":"mode"}',
    b'{"act":["mode"]}',
    b'{"act":"hold","rack":{}}',
    b'{"act":"hold","rack":["r1"]}',
    b'{"act":"hold","rack":"r99"}',
]


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda x: x[:28].decode(errors="replace"))
def test_no_line_can_stop_the_controller(tmp_path: Path, line: bytes) -> None:
    (tmp_path / acts.FILE).write_bytes(line + b"\n")
    write(tmp_path, FULL)
    running = Acts(tmp_path, SITE)
    assert running.poll() == Requests(envelope_w=200e3, envelope_by="ann")
    assert len(running.refused) == 1
    assert acts.FILE in running.refused[0]
    assert running.poll().envelope_w == 200e3
    assert len(running.refused) == 1


def test_a_request_in_a_hurry_says_so_until_it_is_released(tmp_path: Path) -> None:
    running = Acts(tmp_path, SITE)
    write(tmp_path, FULL | {"within_s": 30})
    assert running.poll() == Requests(envelope_w=200e3, envelope_by="ann", envelope_within_s=30)
    write(tmp_path, {"act": "envelope", "mw": None, "within_s": 30})
    assert running.poll().envelope_within_s is None


def test_refusals_are_counted_and_only_the_last_are_kept(tmp_path: Path) -> None:
    (tmp_path / acts.FILE).write_bytes(b"".join(b"rubbish %d\n" % i for i in range(1000)))
    running = Acts(tmp_path, SITE)
    running.poll()
    assert running.refusals == 1000
    assert len(running.refused) == acts.KEPT
    assert "rubbish 999" in running.refused[-1]


def test_a_line_without_end_is_refused_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / acts.FILE).write_bytes(b"x" * 5_000_000)
    running = Acts(tmp_path, SITE)
    for _ in range(10):
        assert running.poll() == Requests()
    assert running.refusals == 5  # one a chunk
    with (tmp_path / acts.FILE).open("ab") as file:
        file.write(b"\n")
    write(tmp_path, FULL)
    assert running.poll().envelope_w == 200e3


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ({"act": "envelope", "mw": 0}, "more than 0 and at most 0.33 MW"),
        ({"act": "envelope", "mw": -3}, "more than 0"),
        ({"act": "envelope", "mw": 0.34}, "at most 0.33 MW"),
        ({"act": "envelope", "mw": float("nan")}, "more than 0"),
        ({"act": "envelope", "mw": "full"}, "or `release`"),
        ({"act": "envelope", "mw": 0.2, "within_s": 0}, "give seconds, more than 0"),
        ({"act": "envelope", "mw": 0.2, "within_s": "soon"}, "give seconds"),
        ({"act": "mode", "mode": "on"}, "give one of live, hold, shadow, off"),
        ({"act": "hold", "rack": "r9"}, "racks.csv"),
        ({"act": "trip"}, "envelope, curtail, cancel, mode, hold, release"),
        ({"act": "ack", "alarm": "mode"}, "give CODE/ELEMENT"),
        ({"act": "shelve", "alarm": "all", "for_s": 60}, "give CODE/ELEMENT"),
        ({"act": "shelve", "alarm": "mode/site"}, "give seconds"),
        ({"act": "shelve", "alarm": "mode/site", "for_s": 1e9}, "a week"),
        ({"act": "ack", "alarm": "mode/site", "since_ms": "now"}, "whole milliseconds"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_that_says_what_to_do(
    tmp_path: Path, act: dict[str, Any], says: str
) -> None:
    with pytest.raises(ActError, match=says.replace("`", ".")):
        write(tmp_path, act)
    assert not (tmp_path / acts.FILE).exists()


def test_a_file_that_was_cut_releases_nothing_and_what_follows_is_read(tmp_path: Path) -> None:
    """A log rotation must not end a curtailment."""
    write(tmp_path, FULL)
    running = Acts(tmp_path, SITE)
    running.poll()
    (tmp_path / acts.FILE).write_bytes(b"")
    assert running.poll().envelope_w == 200e3
    assert "cut" in running.refused[0]
    write(tmp_path, {"act": "hold", "rack": "r2"})
    assert running.poll() == Requests(envelope_w=200e3, envelope_by="ann", held=frozenset({"r2"}))


def test_a_torn_line_does_not_swallow_the_act_written_after_it(tmp_path: Path) -> None:
    (tmp_path / acts.FILE).write_bytes(b'{"act":"envelope","mw":4')
    write(tmp_path, {"act": "hold", "rack": "r2"})
    running = Acts(tmp_path, SITE)
    assert running.poll().held == {"r2"}
    assert len(running.refused) == 1


def test_an_envelope_below_the_floors_is_taken_with_a_warning() -> None:
    floors_mw = sum(r.floor_w for r in SITE.racks) / 1e6
    assert "floors" in acts.warning(SITE, {"act": "envelope", "mw": floors_mw * 0.9})
    assert acts.warning(SITE, {"act": "envelope", "mw": floors_mw * 1.1}) == ""
    assert acts.warning(SITE, {"act": "envelope", "mw": None}) == ""


def test_the_state_directory_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    folder = acts.state_dir(SITE)
    assert folder == tmp_path / "headroom" / "tiny"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(acts.state_dir(SITE, tmp_path / "given").stat().st_mode) == 0o700
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "systemd"))
    assert acts.state_dir(SITE) == tmp_path / "systemd" / "headroom" / "tiny"


def test_the_epoch_rises_over_restarts(tmp_path: Path) -> None:
    clock = VirtualClock()
    epochs = [acts.next_epoch(tmp_path, clock) for _ in range(5)]
    assert epochs == sorted(set(epochs))
    assert epochs[0] == clock.wall_ms() // 1000


@pytest.mark.parametrize("left", ["", "rubbish", "\udcff"])
def test_the_epoch_rises_over_a_lost_directory_or_a_spoilt_file(tmp_path: Path, left: str) -> None:
    clock = VirtualClock()
    before = acts.next_epoch(tmp_path, clock)
    if left:
        (tmp_path / "epoch").write_bytes(left.encode(errors="surrogateescape"))
    else:
        (tmp_path / "epoch").unlink()
    clock.advance(2.0)
    assert acts.next_epoch(tmp_path, clock) > before


def test_the_epoch_rises_over_a_clock_that_went_back(tmp_path: Path) -> None:
    before = acts.next_epoch(tmp_path, VirtualClock())
    assert acts.next_epoch(tmp_path, VirtualClock(wall_start_ms=0)) == before + 1


def test_a_controller_that_starts_runs_by_all_that_was_asked_however_much_it_is(tmp_path: Path) -> None:
    line = json.dumps({"at_ms": 1, "by": "x" * 2000, "why": "", "act": "hold", "rack": "r1"}) + "\n"
    last = json.dumps({"at_ms": 2, "by": "", "why": "", "act": "envelope", "mw": 0.2}) + "\n"
    (tmp_path / acts.FILE).write_text(line * 1200 + last)
    assert (tmp_path / acts.FILE).stat().st_size > 2 * acts.CHUNK
    assert Acts(tmp_path, tiny_site()).poll().envelope_w == 0.2e6


def test_a_hurry_without_end_is_refused() -> None:
    for within in (10**400, 1e300, 86_401):
        with pytest.raises(ActError, match="a day"):
            act_kinds.check(tiny_site(), {"act": "envelope", "mw": 0.2, "within_s": within})
