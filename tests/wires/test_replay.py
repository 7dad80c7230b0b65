"""A recorded site goes through the controller again: by the controller that recorded, and by one that only listened."""

import json
from pathlib import Path

import pytest
from helpers_modbus import pause
from helpers_run import Process, Town
from helpers_site import tiny_site
from typer.testing import CliRunner

from controller import acts
from controller.frames import JobTold, Mode, Requests
from controller.replay import Replay
from controller.replaying import into_controller
from drivers.capture.tape import Entry, Exchange, Header, Message, Note, TapeError, entry_line, open_tape, site_hash
from drivers.cli import joined
from drivers.clock import RealClock
from drivers.site.load import load_site
from drivers.site.write import write_site

pytestmark = pytest.mark.usefixtures("warm_kernels")


class RecordedTown(Town):
    """A town whose controller records, beside a `headroom capture`."""

    def new_controller(self) -> Process:
        """A controller that is not running yet."""
        at = ("--state", str(self.state), "--capture", str(self.path.parent / "own"), "--stop-within", "2")
        return Process("run", str(self.path), "--json", *at)


@pytest.mark.timeout(240)
async def test_recorded_orders_come_out_of_the_controller_again(tmp_path: Path) -> None:
    """An act and a change of mode are in it; ended by kill -9."""
    async with RecordedTown(tmp_path, ramp_down_w_per_s=4e5) as town:
        await town.until(lambda: town.frame["racks_known"] == town.frame["racks"], 40)
        listener = await town.start(Process("capture", str(town.path), str(tmp_path / "heard")))
        folder = acts.state_dir(town.site, town.state)
        acts.append(folder, town.site, RealClock(), "test", "", {"act": "envelope", "mw": 4.9})
        await town.wait(8)
        acts.append(folder, town.site, RealClock(), "test", "", {"act": "mode", "mode": "hold"})
        await town.wait(6)
        await town.controller.kill()
        await listener.kill(15)
        cycles, mode = town.frame["cycle"], town.frame["mode"]
    assert mode == "hold"
    site = load_site(town.path)
    own = Replay(site, open_tape(tmp_path / "own")).run()
    assert own.recorded_by_controller
    assert own.cycles >= cycles
    assert own.compared >= cycles - 3
    assert own.equal == own.compared, own.lines
    assert own.faults == [] or "cut off" in own.faults[0]
    frames: list[str] = []
    assert into_controller(site, tmp_path / "own", frames.append, frames=True, as_json=False)
    modes = [json.loads(line)["mode"] for line in frames if line.startswith("{")]
    assert modes[0] == "live"
    assert modes[-1] == "hold"
    heard = Replay(site, open_tape(tmp_path / "heard")).run()
    assert not heard.recorded_by_controller
    assert heard.cycles >= 10
    assert heard.compared >= 8
    assert heard.counters["messages"] > 100


async def test_servers_of_a_recording_are_read_by_another_controller(tmp_path: Path) -> None:
    """`replay --serve` as a process: its devices are there for a probe of the same site."""
    async with Town(tmp_path) as town:
        await town.until(lambda: bool(town.plant.lines), 40)
        await town.controller.kill()
        got = Process("capture", str(town.path), str(tmp_path / "t"), "--for", "14", "--no-mqtt", "--every-point")
        await got.start()
        assert await got.end(60) == 0
        await town.plant.kill()
        serving = await town.start(Process("replay", str(town.path), str(tmp_path / "t"), "--serve", "--speed", "10"))
        await pause(5)
        assert serving.running, serving.said
        probing = Process("probe", str(town.path))
        await probing.start()
        assert await probing.end(60) == 0, probing.said
        await serving.kill(15)


def test_a_recording_of_another_site_is_refused_and_an_older_one_is_said(tmp_path: Path) -> None:
    site = tiny_site()
    write_site(site, tmp_path / "site")
    sent = Message(2.0, "headroom/v1/tiny/lease/g1", b"not a lease", retained=False, sent=True)
    notes: list[Entry] = [Note(1.0, {"note": "begin", "epoch": "x"}), Note(1.5, {"note": "cycle"}), sent]
    for name, text in (("tiny", "old"), ("other", site_hash(site))):
        header = Header(name, text, 0.0, 0, 1)
        (tmp_path / name).write_bytes(header.line() + b"".join(map(entry_line, notes)))
    said: list[str] = []
    assert into_controller(site, tmp_path / "tiny", said.append, frames=False, as_json=False)
    assert "have changed since" in said[-1]
    assert "nothing to compare" in said[-1]
    with pytest.raises(TapeError, match="of site other, not of tiny"):
        into_controller(site, tmp_path / "other", said.append, frames=False, as_json=False)
    run = CliRunner()
    got = run.invoke(joined(), ["replay", str(tmp_path / "site"), str(tmp_path / "nowhere")])
    assert got.exit_code == 1
    assert "cannot be read" in got.output
    got = run.invoke(joined(), ["replay", str(tmp_path / "site"), str(tmp_path / "tiny"), "--serve", "--site-out", "."])
    assert got.exit_code == 1
    assert "exists" in got.output


def test_a_recording_that_leaps_in_time_or_names_no_time_ends_soon(tmp_path: Path) -> None:
    site = tiny_site()
    heard = [Exchange(t_s, "c1", b"\1\3\0\0\0\1", b"", "silent") for t_s in (1.0, 3.5, 1e9, 2.0, 1e300)]
    header = Header("tiny", site_hash(site), 0.0, 0, 1)
    wrong = b'{"t":NaN,"d":"c1","rq":"","rp":"","q":"bad"}\n{"t":1e999,"note":"x"}\n'
    (tmp_path / "t").write_bytes(header.line() + wrong + b"".join(map(entry_line, heard)))
    out = Replay(site, open_tape(tmp_path / "t")).run()
    assert out.cycles == 3
    assert "3 lines are none" in out.faults[0]


def test_requests_survive_a_recording() -> None:
    told = (JobTold("j1", ("r1", "r2"), 2, tenant="a", flexible=True),)
    asked = Requests(
        Mode.HOLD, 3e6, "ops", held=frozenset({"r2", "r1"}), parked=frozenset({"r3"}), priority=(("train", 3),),
        jobs=told, envelope_within_s=30.0,
    )  # fmt: skip
    assert acts.requests_of(json.loads(json.dumps(acts.requests_body(asked)))) == asked
    with pytest.raises(KeyError):
        acts.requests_of({"mode": "live"})
