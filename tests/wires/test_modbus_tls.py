"""Modbus/TCP Security against pymodbus's TLS server: certificates on both sides, and nothing without them."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, pause, reader_for, reading, until
from helpers_programs import free_port
from helpers_tls import Authority
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.modbus.security import SecurityError, tls_context
from drivers.modbus.writer import ModbusWriter, WriteFailedError, WriteRefusedError
from drivers.points import Quality
from drivers.probe.walk import probe
from drivers.site.model import Gateway, Site

CDU = "delta_rpu_orv3"
HOST = "127.7.4.1"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture
def _signed(ours: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in ours.environ("headroom").items():
        monkeypatch.setenv(name, path)


@asynccontextmanager
async def unit(port: int, context: ssl.SSLContext | None) -> AsyncIterator[None]:
    """pymodbus's server with one coolant unit whose registers are all 300; no context: plain TCP."""
    device = SimDevice(1, [SimData(36864, values=[300] * 1042, datatype=DataType.REGISTERS)])
    server: ModbusTcpServer
    if context is None:
        server = ModbusTcpServer(device, address=(HOST, port))
    else:
        server = ModbusTlsServer(device, address=(HOST, port), sslctx=context)
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped


def tls_site(port: int) -> Site:
    return modbus_site((own_device("c", CDU, HOST, port, framing="tls", period_s=0.3),))


@pytest.mark.usefixtures("_signed")
async def test_a_device_is_read_and_written_inside_tls(ours: Authority) -> None:
    port = free_port()
    site = tls_site(port)
    async with unit(port, ours.server_context(HOST)), reading(site) as rig:
        await until(lambda: bool((rig.quality(CDU)[:, 0] == Quality.GOOD).all()))
        assert rig.value(CDU, "flow_lpm")[0] == pytest.approx(30.0)
        writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
        assert await writer.write("c", "flow_target_lpm", 123.4) == pytest.approx(123.4)
        (check,) = await probe(site, PROFILES)
        assert next(p.value for p in check.points if p.point.name == "flow_lpm") == pytest.approx(30.0)
        await until(lambda: rig.reader.counters.replies >= 10)
        assert rig.reader.counters.garbage == rig.reader.counters.timeouts == 0


@pytest.mark.usefixtures("_signed")
@pytest.mark.parametrize("who", ["another CA", "another host", "no TLS"])
async def test_who_cannot_prove_itself_is_not_read(ours: Authority, theirs: Authority, who: str) -> None:
    port = free_port()
    authority, host = (theirs, HOST) if who == "another CA" else (ours, "127.7.4.9")
    context = None if who == "no TLS" else authority.server_context(host)
    async with unit(port, context), reading(tls_site(port)) as rig:
        await pause(1.5)
        assert np.isnan(rig.value(CDU, "flow_lpm")).all()
        (health,) = rig.reader.health()
        assert not health.up
        assert "1 of 1 connections down: " in health.detail
        assert ("certificate verify failed" in health.detail) == (who != "no TLS")
        with pytest.raises(WriteFailedError, match="no connection"):
            await ModbusWriter(tls_site(port), PROFILES, CLOCK, forbidden=str).write("c", "flow_target_lpm", 123.4)


async def test_whom_the_site_s_ca_has_not_signed_gets_nothing(
    ours: Authority, theirs: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device refuses us: our certificate is another CA's."""
    files = theirs.environ("stranger") | {"HEADROOM_MODBUS_CA": str(ours.folder / "ca.pem")}
    for name, path in files.items():
        monkeypatch.setenv(name, path)
    port = free_port()
    async with unit(port, ours.server_context(HOST)), reading(tls_site(port)) as rig:
        await pause(1.5)
        assert np.isnan(rig.value(CDU, "flow_lpm")).all()


@pytest.mark.usefixtures("_signed")
async def test_units_of_a_gateway_inside_tls(ours: Authority) -> None:
    port = free_port()
    gateway = Gateway(id="g", host=HOST, port=port, service_ms=5, framing="tls", fed_from=())
    device = own_device("c", CDU, "", 0, gateway="g", period_s=0.3)
    async with unit(port, ours.server_context(HOST)), reading(modbus_site((device,), (gateway,))) as rig:
        await until(lambda: bool((rig.quality(CDU)[:, 0] == Quality.GOOD).all()))


async def test_without_its_files_it_says_which(
    ours: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = ours.environ("someone")
    with pytest.raises(SecurityError, match="Set HEADROOM_MODBUS_KEY to PEM files"):
        tls_context(environ | {"HEADROOM_MODBUS_KEY": ""})
    with pytest.raises(SecurityError, match=r"cannot be used: .*No such file"):
        tls_context(environ | {"HEADROOM_MODBUS_CA": str(tmp_path / "none.pem")})
    for name in environ:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SecurityError, match="HEADROOM_MODBUS_CA, HEADROOM_MODBUS_CERT, HEADROOM_MODBUS_KEY"):
        reader_for(tls_site(1))
    with pytest.raises(WriteRefusedError, match="HEADROOM_MODBUS_CA"):
        await ModbusWriter(tls_site(1), PROFILES, CLOCK, forbidden=str).write("c", "flow_target_lpm", 123.4)
