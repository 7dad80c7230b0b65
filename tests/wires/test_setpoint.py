"""From an operator's word to a register and back: through the controller, into a device that is the right one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from helpers_foreign import foreign_device
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, sample, until
from helpers_programs import free_port
from helpers_run import MAIN, Town
from typer.testing import CliRunner

from controller import acts
from controller.setpoint import found, in_words
from drivers.building import Building
from drivers.cli import joined
from drivers.modbus.audit import Audit, WriteRecord
from drivers.modbus.identity import Identity
from drivers.modbus.provenance import Provenance
from drivers.site.model import Site
from drivers.site.write import write_site
from drivers.wires import SetpointCommand
from sim.serve.modbus import ModbusPlant

COLD = SetpointCommand("c1", "supply_target_c", 38.0, by="me", why="cold aisle", act="a1")


def site_on(port: int, **columns: object) -> Site:
    devices = [own_device("c1", "delta_rpu_orv3", "127.65.0.1", port, **columns)]
    devices.append(own_device("bess1", "sunspec_battery", "127.65.0.2", port))
    return modbus_site(tuple(devices))


@asynccontextmanager
async def built(site: Site, folder: Path) -> AsyncIterator[tuple[Building, ModbusPlant]]:
    plant = ModbusPlant(site, PROFILES)
    for name, slab in plant.slabs.items():
        plant.update(name, sample(len(slab.devices), name))
    plant.put("delta_rpu_orv3", "supply_target_c", 40.0)
    await plant.start()
    building = Building(site, CLOCK, audit=folder / "audit.jsonl")
    await building.start()
    try:
        yield building, plant
    finally:
        await building.stop()
        await plant.stop()


def records(folder: Path) -> list[dict[str, Any]]:
    path = folder / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_a_setpoint_reaches_its_register_and_the_audit_says_all_of_it(tmp_path: Path) -> None:
    site = site_on(free_port(), vendor="Delta")
    async with built(site, tmp_path) as (building, plant):
        assert building.send([COLD]) == 1  # nothing has allowed it yet
        await until(lambda: len(records(tmp_path)) == 1)
        assert "not finished a cycle" in records(tmp_path)[0]["why"]
        building.forbid("mode is HOLD")
        building.send([COLD])
        await until(lambda: len(records(tmp_path)) == 2)
        assert "mode is HOLD" in records(tmp_path)[1]["why"]
        building.forbid("")
        building.send([COLD])
        await until(lambda: len(records(tmp_path)) == 3)
        record = records(tmp_path)[2]
        assert record["verified"], record
        assert (record["by"], record["reason"], record["act"]) == ("me", "cold aisle", "a1")
        assert record["before"] == {"supply_target_c": 40.0}
        assert record["shown"] == {"supply_target_c": pytest.approx(38.0)}
        slab = plant.slabs["delta_rpu_orv3"]
        assert slab.codec.get(slab.image.astype("u2"), "supply_target_c")[0] == pytest.approx(38.0)
        assert in_words(record, "C") == (True, "c1.supply_target_c was 40 C, reads back 38 C")
        assert (tmp_path / "audit.jsonl").stat().st_mode & 0o77 == 0


async def test_a_reversion_leaves_before_its_value(tmp_path: Path) -> None:
    site = site_on(free_port())
    async with built(site, tmp_path) as (building, _):
        building.forbid("")
        building.send([SetpointCommand("bess1", "power_set_w", -5e4, (0.0, 60.0))])
        await until(lambda: len(records(tmp_path)) == 1)
        (record,) = records(tmp_path)
        assert record["verified"], record
        names = list(record["shown"])
        assert names.index("power_set_w") == len(names) - 2  # then what enables it
        assert len(record["sent"]) == 4


async def test_a_device_that_is_another_is_an_alarm_and_is_not_written(tmp_path: Path) -> None:
    site = site_on(free_port(), vendor="Delta", firmware="9.*")
    watch = Provenance(site, PROFILES, CLOCK, first_s=0.0, again_s=0.2)
    async with built(site, tmp_path) as (building, plant):
        watch.start()
        await until(lambda: watch.rounds >= 1)
        assert watch.blocked("c1") == "not the device of the site file: firmware is '1.0', the site file says '9.*'"
        assert watch.blocked("bess1") == ""  # nothing is said of it
        (alarm,) = watch.alarms()
        assert "1 device is not the one of the site file, nothing is written there: c1 (firmware" in alarm
        building.forbid("")
        building.send([COLD])
        await until(lambda: len(records(tmp_path)) == 1)
        assert "not the device of the site file" in records(tmp_path)[0]["why"]
        assert records(tmp_path)[0]["sent"] == []
        plant.faults.set("c1", "silent")  # what was found stands while it does not answer
        await until(lambda: "c1" in watch.unanswered)
        assert "c1" in watch.differing
        assert "could not be asked" in watch.alarms()[-1]
        await watch.stop()


async def test_the_alarm_goes_when_the_right_device_is_back() -> None:
    port = free_port()
    site = modbus_site((own_device("c1", "delta_rpu_orv3", "127.0.0.1", port, vendor="Delta"),))
    watch = Provenance(site, PROFILES, CLOCK, first_s=0.0, again_s=0.05)
    watch.start()
    try:
        async with foreign_device("127.0.0.1", port, {0: [0]}, who=("Other", "X", "1")):
            await until(lambda: bool(watch.differing))
        async with foreign_device("127.0.0.1", port, {0: [0]}, who=("delta ", "X", "1")):
            await until(lambda: not watch.differing)
            assert watch.alarms() == []
    finally:
        await watch.stop()
    assert str(Identity()) == "says nothing of itself"


@pytest.mark.parametrize(
    "pdu",
    [
        bytes((0x2B, 0x0E, 1, 0x81, 0, 0, 3, 0, 200)) + b"x",  # an object longer than its reply
        bytes((0x2B, 0x0E, 1, 0x81, 0xFF, 0, 1, 0, 1)) + b"x",  # more to follow, for ever
        bytes((0x2B,)),
        b"\x83\x00",
        b"\x00" * 200,
    ],
)
async def test_a_hostile_device_keeps_no_other_from_being_asked(pdu: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                writer.write(head[:4] + (1 + len(pdu)).to_bytes(2, "big") + head[6:7] + pdu)
        writer.close()

    hostile = await asyncio.start_server(serve, "127.0.0.1", 0)
    bad_port, port = hostile.sockets[0].getsockname()[1], free_port()
    bad = own_device("bad", "delta_rpu_orv3", "127.0.0.1", bad_port, vendor="Delta")
    site = modbus_site((bad, own_device("c1", "delta_rpu_orv3", "127.0.0.1", port, vendor="Delta")))
    watch = Provenance(site, PROFILES, CLOCK, first_s=0.0, again_s=60.0)
    async with hostile, foreign_device("127.0.0.1", port, {0: [0]}, who=("Other", "X", "1")):
        watch.start()
        await until(lambda: watch.rounds == 1)
        await watch.stop()
    assert "bad" in watch.unanswered or "bad" in watch.differing
    assert list(watch.differing)[-1] == "c1"
    assert watch.blocked("c1")


async def test_records_that_cannot_be_kept_are_an_alarm(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    audit = Audit(tmp_path / "audit.jsonl")
    audit(WriteRecord(0, "c1", "x", (float("nan"),)))
    await audit.close()
    assert "1 writes are not recorded" in audit.alarms()[0]
    assert Audit(None).alarms() == []


async def run(*words: str) -> tuple[int, str]:
    """One of our commands in a process of its own; its exit status and all that it said."""
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("warm_kernels")
async def test_the_operators_command_from_end_to_end(tmp_path: Path) -> None:
    async with Town(tmp_path) as town:
        await town.until(lambda: town.frame["racks_known"] == town.frame["racks"], 40)
        cdu = next(d.id for d in town.site.devices if d.profile == "delta_rpu_orv3")
        at = (str(town.path), cdu, "supply_target_c")
        state = ("--state", str(town.state), "--why", "test")
        done, text = await run("setpoint", *at, "36", *state)
        assert done == 0, text
        assert f"{cdu}.supply_target_c was" in text
        assert "reads back 36 C" in text
        done, text = await run("setpoint", *at, "60", *state)
        assert done == 1
        assert "was not set:" in text
        acts.append(town.state, town.site, CLOCK, "me", "", {"act": "mode", "mode": "hold"})
        await town.until(lambda: town.frame["mode"] == "hold", 10)
        done, text = await run("setpoint", *at, "37", *state)
        assert (done, "mode is HOLD" in text) == (1, True), text
        audit = [json.loads(line) for line in (town.state / acts.AUDIT).read_text().splitlines()]
        assert [bool(r["sent"]) for r in audit] == [True, False, False]
        assert all(r["by"] and r["reason"] == "test" for r in audit)


def test_the_command_says_what_is_wrong_before_anything_is_asked(tmp_path: Path) -> None:
    write_site(site_on(free_port()), tmp_path / "site")
    site, state = str(tmp_path / "site"), ("--state", str(tmp_path / "state"))
    for words, says in (
        (("c9", "x", "1"), "there is no device 'c9'"),
        (("c1", "flow_lpm", "1"), "it lets be written: "),
        (("c1", "supply_target_c", "38"), "no controller runs on"),
        (("bess1", "power_set_w", "-5e4", "--revert", "-1", "--after", "60"), "no controller runs on"),
        (("bess1", "power_set_w", "1", "--revert", "0"), "--revert and --after together"),
    ):
        got = CliRunner().invoke(joined(), ["setpoint", site, *words, *state])
        assert got.exit_code == 1
        assert says in got.output
    assert not (tmp_path / "state" / acts.FILE).exists()


def test_a_torn_or_foreign_line_of_the_audit_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert found(path, 0, "x") is None
    path.write_bytes(b'nonsense\n[1]\n{"act":"y"}\n{"act":"x","verified":false')
    assert found(path, 0, "x") is None
    path.write_bytes(b'{"act":"x","n":1}\n')
    assert found(path, 0, "x") == {"act": "x", "n": 1}
