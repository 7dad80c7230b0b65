"""Probe and scan against the plant's servers and against pymodbus's device simulator."""

import asyncio
import csv
import json
import struct
from io import StringIO
from pathlib import Path

import pytest
from helpers_foreign import foreign_device
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, sample, unit_device
from helpers_programs import free_port
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from drivers.cli import joined
from drivers.modbus.ask import Line, NoAnswerError, read_pdu
from drivers.probe.report import as_csv, as_html, as_json, as_text
from drivers.probe.scan import parse_address, parse_units, scan
from drivers.probe.walk import probe
from drivers.site.model import Gateway, Site
from drivers.site.write import write_site
from sim.serve.modbus import ModbusPlant


def site_on(port: int, **columns: object) -> Site:
    devices = [own_device("c1", "delta_rpu_orv3", "127.62.0.1", port, **columns)]
    devices.append(own_device("bess1", "sunspec_battery", "127.62.0.2", port))
    devices += [unit_device(f"pdu{u}", "gw", u) for u in (1, 2, 3)]
    return modbus_site(tuple(devices), (Gateway(id="gw", host="127.62.1.1", port=port, service_ms=1, fed_from=()),))


async def started(site: Site) -> ModbusPlant:
    plant = ModbusPlant(site, PROFILES)
    for name, slab in plant.slabs.items():
        plant.update(name, sample(len(slab.devices), name))
    plant.put("sunspec_battery", "storage_status", 1.0)
    await plant.start()
    return plant


async def test_a_sound_site_has_no_findings_and_every_point_is_walked() -> None:
    site = site_on(free_port(), vendor="Delta", firmware="1.*")
    plant = await started(site)
    try:
        checks = await probe(site, PROFILES)
    finally:
        await plant.stop()
    assert [c.device.id for c in checks] == ["c1", "bess1", "pdu1", "pdu2", "pdu3"]
    for c in checks:
        assert c.findings == [], c.findings
        assert [p.point.name for p in c.points] == [p.name for p in PROFILES[c.device.profile].points]
    flow = checks[0].points[0]
    assert flow.words == (round(flow.value * 10),)
    assert flow.value == pytest.approx(sample(1, "delta_rpu_orv3")[0, 0])
    assert checks[0].identity is not None
    assert checks[0].identity.vendor == "Delta"


async def test_one_report_names_every_failing_device_and_why() -> None:
    site = site_on(free_port(), vendor="Other")
    plant = await started(site)
    try:
        plant.faults.set("pdu2", "silent")
        plant.faults.set("pdu3", "exception", 4)
        plant.faults.set("bess1", "sentinel")
        checks = {c.device.id: c for c in await probe(site, PROFILES)}
    finally:
        await plant.stop()
    assert checks["pdu1"].findings == []
    assert "exception 11, target failed to respond" in checks["pdu2"].findings[0]
    assert "exception 4, device failure" in checks["pdu3"].findings[0]
    assert "missing" in checks["bess1"].findings[0]
    assert checks["c1"].findings == ["vendor is 'Delta', the site file says 'Other'"]
    text = list(as_text(list(checks.values()), points=False))
    assert [line.split()[0] for line in text[:-1]] == ["c1", "bess1", "pdu2", "pdu3"]
    assert text[-1].endswith("4 devices with findings")
    nobody = await probe(site, PROFILES, ["c1", "pdu1"])
    assert all("no connection" in c.findings[0] for c in nobody)


async def test_a_device_of_another_maker_is_read_word_by_word() -> None:
    port = free_port()
    registers = {36864: [842, 321, 0xFFFF, *[0] * 23], 37375: [0, 16, 0, 0b100001, 0], 37888: [0] * 5}
    async with foreign_device("127.0.0.1", port, registers, who=("Delta", "RPU", "7")) as foreign:
        (check,) = await probe(modbus_site((own_device("c1", "delta_rpu_orv3", "127.0.0.1", port),)), PROFILES)
        assert all(words is None for *_, words in foreign.asked)
    by = {p.point.name: p for p in check.points}
    assert (by["flow_lpm"].words, by["flow_lpm"].verdict) == ((842,), "ok")
    assert by["flow_lpm"].value == pytest.approx(84.2)
    assert by["return_c"].verdict == "missing"
    assert by["leak_flags"].note == "chassis_stop0, external"
    assert by["control_flags"].verdict == "refused"
    assert "illegal address" in by["control_flags"].note
    assert check.identity is not None
    assert (check.identity.vendor, check.identity.product, check.identity.revision) == ("Delta", "RPU", "7")
    rows = list(csv.DictReader(StringIO(as_csv([check]))))
    assert rows[0]["words"] == "034A"
    assert rows[2]["verdict"] == "missing"
    json.dumps(as_json([check]), allow_nan=False)
    bad = as_html([check], "<script>")
    assert "<script>" not in bad
    assert bad.count("<tr") == len(rows) + 1 + 2  # and the table of devices
    assert "vendor Delta" not in bad  # the site file does not say who it must be
    assert "not said</td><td>Delta, RPU, firmware 7</td>" in bad


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Modbus"),
        (b"\0\1\0\0\0\5\1\3\2\0\0", "where 6 are due"),  # a register less than asked for
        (b"\0\7\0\0\0\5\1\3\2\0\0" * 70, "nobody asked"),
        (b"", "hung up"),
    ],
)
async def test_answers_that_are_none_are_said_and_bounded(reply: bytes, says: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(12)
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Line("127.0.0.1", port, 5.0) as line:
        with pytest.raises(NoAnswerError, match=says):
            await line.ask(1, read_pdu(3, 0, 2))
        with pytest.raises(ValueError, match="never write"):
            await line.ask(1, struct.pack(">BHH", 6, 0, 1))


async def test_scan_finds_units_identities_and_profiles_and_only_reads() -> None:
    port = free_port()
    plant = await started(site_on(port))
    try:
        found = await scan("127.62.1.1", port, range(1, 6), PROFILES, CLOCK, 2.0, 0.0)
        assert [f.unit for f in found] == [1, 2, 3]
        assert all("raritan_px_xerus" in f.fits and f.identity.vendor == "Raritan" for f in found)
        (battery,) = await scan("127.62.0.2", port, (1,), PROFILES, CLOCK, 2.0, 0.0)
        assert battery.sunspec == (1, 701, 704, 713, 715, 802)
        assert "sunspec_battery" in battery.fits
    finally:
        await plant.stop()
    with pytest.raises(NoAnswerError, match="no connection"):
        await scan("127.62.1.1", port, (1,), PROFILES, CLOCK)


async def test_scan_of_a_device_that_answers_to_every_unit_id_never_writes() -> None:
    port = free_port()
    async with foreign_device("127.0.0.1", port, {0: [7] * 10}, unit=0) as foreign:
        found = await scan("127.0.0.1", port, range(1, 248), PROFILES, CLOCK, 2.0, 0.0)
        assert [(f.unit, f.any_unit) for f in found] == [(1, True)]
        assert {fc for fc, *_ in foreign.asked} <= {1, 2, 3, 4}


@pytest.mark.parametrize("who", [None, ("Vertiv", "XDC", "1")])
async def test_a_profile_of_few_points_fits_only_where_the_maker_is_named(who: tuple[str, str, str] | None) -> None:
    """Three registers that are all 1 say little: many a device has such."""
    port = free_port()
    async with foreign_device("127.0.0.1", port, {400: [1] * 100}, who=who):
        (found,) = await scan("127.0.0.1", port, (1,), PROFILES, CLOCK, 2.0, 0.0)
    assert "vertiv_xdc" in (found.fits if who else found.perhaps)
    assert ("vertiv_xdc" in found.fits) == (who is not None)
    assert ("too little to tell: " in str(found)) or who


def test_addresses_and_units_are_read_or_refused_in_words() -> None:
    assert parse_address("10.0.0.7") == ("10.0.0.7", 502)
    assert parse_address("pdu:1502") == ("pdu", 1502)
    assert parse_address("[::1]:77") == ("::1", 77)
    assert parse_address("::1") == ("::1", 502)
    for wrong in ("", "a:0", "a:99999", ":502", "[::1", "a:b"):
        with pytest.raises(ValueError, match="no address"):
            parse_address(wrong)
    for wrong in ("", "9-3", "1-256", "-4", "a"):
        with pytest.raises(ValueError, match="no unit ids"):
            parse_units(wrong)
    assert parse_units("3-9") == range(3, 10)
    assert parse_units("4") == range(4, 5)


@given(st.text(max_size=12))
def test_any_other_text_is_a_value_error(text: str) -> None:
    for parse in (parse_address, parse_units):
        said = ""
        try:
            parse(text)
        except ValueError as error:
            said = str(error)
        assert not said or f"'{text}'" in said


def test_the_command_says_what_is_wrong_and_writes_its_reports(tmp_path: Path) -> None:
    site = modbus_site((own_device("c1", "delta_rpu_orv3", "127.62.3.1", free_port()),))
    write_site(site, tmp_path / "site")
    out = [str(tmp_path / name) for name in ("r.csv", "r.html")]
    run = CliRunner()
    got = run.invoke(joined(), ["probe", str(tmp_path / "site"), "--csv", out[0], "--html", out[1]])
    assert got.exit_code == 1
    assert "c1 at 127.62.3.1" in got.output
    assert "no connection" in got.output
    assert "silent" in Path(out[0]).read_text()
    assert "no connection" in Path(out[1]).read_text()
    got = run.invoke(joined(), ["probe", str(tmp_path / "site"), "c2"])
    assert got.exit_code == 1
    assert "there is no device 'c2'" in got.output
    assert run.invoke(joined(), ["scan", "127.62.3.1:0"]).exit_code == 1
