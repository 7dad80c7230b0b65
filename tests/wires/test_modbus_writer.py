"""The one writer against pymodbus's device simulator and the plant: what leaves, in what order, what is recorded."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers_foreign import Foreign, foreign_device
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device
from helpers_programs import free_port
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.constants import ExcCodes

from drivers.codec import decode_point
from drivers.modbus.audit import AuditLog, WriteRecord
from drivers.modbus.writer import ModbusWriter, Reversion, WriteFailedError, WriteRefusedError
from drivers.profile import Block, Keys, Point, Profile, Revert, WriteLimit, lint_profile
from sim.serve.modbus import ModbusPlant

SLOW = WriteLimit(min=0, max=100, min_gap_s=0, settle_s=2.0, tolerance=0.5)
GENSET = Profile(
    name="genset",
    title="Maker Genset",
    protocol="modbus",
    source="test",
    trust="standard",
    blocks=(Block(first=772, last=775), Block(first=4104, last=4105)),
    keys=Keys(
        addr=4104, keys={"stop": 35700, "auto": 35701, "mute": 35706}, shows="mode", expect={"stop": 0, "auto": 1}
    ),
    points=(Point(name="mode", unit="", addr=772, poll=True),),
)
DRIVE = Profile(
    name="drive",
    title="Maker Drive",
    protocol="modbus",
    source="test",
    trust="standard",
    blocks=(Block(first=0, last=9),),
    points=(
        Point(name="speed_pct", unit="%", addr=0, scale=0.1, write=SLOW, poll=True),
        Point(
            name="ramp_s",
            unit="s",
            addr=1,
            type="u32",
            write=WriteLimit(min=1, max=90000, outside="clamp", min_gap_s=0),
        ),
        Point(name="slow_pct", unit="%", addr=5, write=WriteLimit(min=0, max=100, min_gap_s=3600)),
    ),
)
MADE = {p.name: p for p in (GENSET, DRIVE)}


@dataclass
class Bench:
    """A writer with its device; `mode` is why nothing may be written."""

    writer: ModbusWriter
    foreign: Foreign
    records: list[WriteRecord] = field(default_factory=list)
    mode: str = ""

    @property
    def last(self) -> WriteRecord:
        return self.records[-1]


@asynccontextmanager
async def bench(
    profile: str, registers: dict[int, list[int]], who: tuple[str, str, str] | None = None, **columns: object
) -> AsyncIterator[Bench]:
    port = free_port()
    async with foreign_device("127.0.0.1", port, registers, who=who) as foreign:
        site = modbus_site((own_device("d", profile, "127.0.0.1", port, **columns),))
        on: Bench
        writer = ModbusWriter(
            site, PROFILES | MADE, CLOCK, forbidden=lambda: on.mode, audit=lambda record: on.records.append(record)
        )
        on = Bench(writer, foreign)
        yield on


def test_the_made_profiles_are_good() -> None:
    assert lint_profile(GENSET) == lint_profile(DRIVE) == []


async def test_a_key_goes_with_its_complement_in_one_request_and_must_show() -> None:
    async with bench("genset", {772: [0, 0, 0, 0], 4104: [0, 0]}) as on:

        async def genset(request: tuple[int, int, int, list[int] | None], current: list[int]) -> None:
            if request[0] == 3 and [35701, 29834] in [r[3] for r in on.foreign.asked]:
                current[0] = 1

        on.foreign.misbehave = genset
        await on.writer.command("d", "auto")
        assert on.foreign.writes == [(16, 4104, 2, [35701, 65535 - 35701])]
        assert on.last.sent == [(4104, (35701, 29834))]
        assert on.last.verified
        assert on.last.shown == {"mode": 1.0}
        with pytest.raises(WriteRefusedError, match="too soon"):
            await on.writer.command("d", "stop")  # the gap is one for all keys
        with pytest.raises(WriteRefusedError, match="no command start"):
            await on.writer.command("d", "start")
        assert len(on.foreign.writes) == 1
        assert [r.verified for r in on.records] == [True, False, False]


async def test_the_plant_takes_a_key_only_with_its_complement() -> None:
    port = free_port()
    site = modbus_site((own_device("d", "genset", "127.61.0.1", port),))
    heard: list[str] = []
    plant = ModbusPlant(site, MADE, on_write=lambda _, point, __: heard.append(point))
    station = next(iter(plant.endpoints.values())).stations[1]
    for words in ((35701, 29833), (35702, 29833), (1, 65534)):
        assert station.answer(struct.pack(">BHHBHH", 16, 4104, 2, 4, *words)) == bytes((0x90, 3))
    assert station.answer(struct.pack(">BHH", 6, 4104, 35701))[0] == 0x86
    await plant.start()
    try:
        records: list[WriteRecord] = []
        await ModbusWriter(site, MADE, CLOCK, forbidden=str, audit=records.append).command("d", "auto")
    finally:
        await plant.stop()
    assert heard == ["auto"]
    assert records[0].verified


async def test_sunspec_power_comes_with_its_reversion_and_is_enabled_last() -> None:
    registers = {40000: [0] * 212}
    async with bench("sunspec_battery", registers) as on:
        with pytest.raises(WriteRefusedError, match="falls back to and when"):
            await on.writer.write("d", "power_set_w", 1000.0)
        assert not on.foreign.asked
        shown = await on.writer.write("d", "power_set_w", -120e3, Reversion(5000.0, 60.0))
        assert shown == -120e3
        assert [(r[1], r[3]) for r in on.foreign.writes] == [
            (40096, [0, 5000]),  # falls back to
            (40101, [0, 60]),  # when
            (40094, list(struct.unpack(">HH", struct.pack(">i", -120000)))),
            (40092, [1]),  # from now on
        ]
        assert on.last.verified
        assert on.last.shown == {
            "power_set_revert_w": 5000, "power_set_revert_s": 60, "power_set_w": -120e3, "power_set_enable": 1,
        }  # fmt: skip


async def test_nothing_is_enabled_when_the_fall_back_was_not_taken() -> None:
    async with bench("sunspec_battery", {40000: [0] * 212}) as on:

        async def forgets_the_timer(request: tuple[int, int, int, list[int] | None], current: list[int]) -> None:
            if request[:2] == (3, 40101):
                current[101:103] = [0, 0]

        on.foreign.misbehave = forgets_the_timer
        with pytest.raises(WriteFailedError, match="power_set_revert_s: wants 60 s, reads back 0"):
            await on.writer.write("d", "power_set_w", 1000.0, Reversion(0.0, 60.0))
        assert [r[1] for r in on.foreign.writes] == [40096, 40101]
        assert "reads back 0" in on.last.why


async def test_neighbours_leave_in_one_request_or_not_at_all() -> None:
    async with bench("drive", {0: [0] * 10}) as on:
        assert await on.writer.write_together("d", {"ramp_s": 70000.0, "speed_pct": 41.2}) == {
            "speed_pct": pytest.approx(41.2), "ramp_s": 70000.0,
        }  # fmt: skip
        assert on.foreign.writes == [(16, 0, 3, [412, 1, 4464])]
        with pytest.raises(WriteRefusedError, match="no neighbours"):
            await on.writer.write_together("d", {"speed_pct": 1.0, "slow_pct": 1.0})
        with pytest.raises(WriteRefusedError, match="nothing cannot"):
            await on.writer.write_together("d", {})
        assert len(on.foreign.writes) == 1


async def test_a_value_outside_is_refused_or_clamped_as_the_profile_says() -> None:
    async with bench("drive", {0: [0] * 10}) as on:
        assert await on.writer.write("d", "ramp_s", 1e9) == 90000
        assert on.last.value == (1e9,)
        assert on.last.shown == {"ramp_s": 90000}
        for value in (100.1, -0.1, float("nan"), float("inf")):
            with pytest.raises(WriteRefusedError, match="outside"):
                await on.writer.write("d", "speed_pct", value)
            assert on.last.sent == []
            assert "outside" in on.last.why
        with pytest.raises(WriteRefusedError, match="outside"):
            await on.writer.write("d", "ramp_s", float("nan"))


async def test_read_back_waits_and_tolerates_what_the_profile_allows() -> None:
    async with bench("drive", {0: [0] * 10}) as on:
        reads = 0

        async def takes_its_time(request: tuple[int, int, int, list[int] | None], current: list[int]) -> None:
            nonlocal reads
            if request[0] == 3:
                reads += 1
                current[0] = 500 if reads < 3 else 504  # it was 50.7 that was asked

        on.foreign.misbehave = takes_its_time
        assert await on.writer.write("d", "speed_pct", 50.7) == pytest.approx(50.4)
        assert reads == 3
        assert on.last.verified


async def test_a_failed_write_is_recorded_with_the_words_that_left_and_never_repeated() -> None:
    async with bench("drive", {0: [0] * 10}) as on:

        async def refuses(request: tuple[int, int, int, list[int] | None], current: list[int]) -> ExcCodes | None:
            return ExcCodes.DEVICE_FAILURE if request[3] else None

        on.foreign.misbehave = refuses
        with pytest.raises(WriteFailedError, match="refused"):
            await on.writer.write("d", "slow_pct", 7.0)
        assert len(on.foreign.writes) == 1
        assert on.last.sent == [(5, (7,))]
        assert not on.last.verified
        with pytest.raises(WriteRefusedError, match="too soon"):  # the flash may have been written all the same
            await on.writer.write("d", "slow_pct", 7.0)


async def test_the_mode_is_asked_before_every_request() -> None:
    async with bench("sunspec_battery", {40000: [0] * 212}) as on:
        on.mode = "mode is HOLD"
        with pytest.raises(WriteRefusedError, match="mode is HOLD"):
            await on.writer.write("d", "power_set_w", 1.0, Reversion(0.0, 60.0))
        assert not on.foreign.asked
        on.mode = ""

        async def then_hold(request: tuple[int, int, int, list[int] | None], current: list[int]) -> None:
            if request[3]:
                on.mode = "mode is HOLD"

        on.foreign.misbehave = then_hold
        with pytest.raises(WriteRefusedError, match="HOLD"):
            await on.writer.write("d", "power_set_w", 1.0, Reversion(0.0, 60.0))
        assert len(on.foreign.writes) == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"vendor": "acme", "model": "Drive  9", "firmware": "2.*"}, ""),
        ({"vendor": "Acme Ltd"}, "vendor is 'ACME', the site file says 'Acme Ltd'"),
        ({"firmware": "3.*"}, "firmware is '2.71'"),
        ({"serial": "77"}, "does not tell its serial"),
    ],
)
async def test_nothing_is_written_to_a_device_that_is_another(columns: dict[str, str], says: str) -> None:
    async with bench("drive", {0: [0] * 10}, ("ACME", "Drive 9", "2.71"), **columns) as on:
        if not says:
            await on.writer.write("d", "speed_pct", 1.0)
            assert on.last.verified
            return
        with pytest.raises(WriteRefusedError, match=says):
            await on.writer.write("d", "speed_pct", 1.0)
        assert not on.foreign.writes
        assert on.last.sent == []


async def test_two_writes_at_once_go_one_after_the_other() -> None:
    async with bench("drive", {0: [0] * 10}) as on:
        got = await asyncio.gather(
            *(on.writer.write("d", "slow_pct", float(i)) for i in range(3)), return_exceptions=True
        )
        assert sum(isinstance(g, WriteRefusedError) for g in got) == 2
        assert len(on.foreign.writes) == 1


async def test_a_device_that_is_gone_is_a_failure() -> None:
    async with bench("drive", {0: [0] * 10}) as on:
        pass
    with pytest.raises(WriteFailedError, match="no connection"):
        await on.writer.write("d", "speed_pct", 1.0)
    assert "no connection" in on.last.why


async def test_the_audit_log_is_a_line_each_and_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "writes.jsonl")
    async with bench("drive", {0: [0] * 10}) as on:
        await on.writer.write("d", "speed_pct", 12.0)
        with pytest.raises(WriteRefusedError):
            await on.writer.write("d", "speed_pct", 120.0)
        for record in on.records:
            audit(record)
    lines = [json.loads(line) for line in audit.path.read_text().splitlines()]
    assert [line["verified"] for line in lines] == [True, False]
    assert lines[0]["sent"] == [[0, [120]]]
    assert "outside" in lines[1]["why"]
    full = AuditLog(Path("/dev/full"))
    full(on.last)
    assert full.lost == 1


@given(st.floats(allow_nan=True), st.floats(allow_nan=True))
def test_nothing_outside_the_limits_is_ever_planned(value: float, fall_back: float) -> None:
    """Whatever is asked, a part that is planned lies inside its point's write limits."""
    site = modbus_site((own_device("d", "sunspec_battery", "127.0.0.1", 1),))
    writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
    device, profile = writer._find("d")
    try:
        parts = writer._with_reversion(device, profile, "power_limit_pct", value, Reversion(fall_back, 30.0))
    except WriteRefusedError:
        assert not (0 <= value <= 100 and 0 <= fall_back <= 100)
        return
    assert [p.point.name for p in parts][-1] == "power_limit_enable"
    assert all(p.limit.min <= p.value <= p.limit.max for p in parts)


def test_reversion_is_linted() -> None:
    point = DRIVE.points[0].model_copy(
        update={"write": WriteLimit(min=0, max=1, revert=Revert(value="nothing", timer="speed_pct"))}
    )
    said = lint_profile(DRIVE.model_copy(update={"points": (point,)}))
    assert any("nothing, which is no writable point" in text for text in said)
    assert any("is not in s" in text for text in said)
    assert decode_point(point, [5])[0] == 0.5
