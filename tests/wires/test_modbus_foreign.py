"""Modbus with programs that none of us wrote: a libmodbus server, and tshark over what our tools put on the wire."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from helpers_foreign import foreign_device
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, reading, until
from helpers_programs import free_port, need_program

from drivers.modbus.writer import ModbusWriter
from drivers.probe.scan import scan
from drivers.probe.walk import probe

SERVER = r"""
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    modbus_t *bus = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    modbus_mapping_t *map = modbus_mapping_new_start_address(0, 0, 0, 0, 36864, 1042, 0, 0);
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    map->tab_registers[0] = 842; map->tab_registers[1] = 321; map->tab_registers[2] = 0xFFFF;
    int listener = modbus_tcp_listen(bus, 4);
    if (listener < 0) return 1;
    puts("ready"); fflush(stdout);
    for (;;) {
        if (modbus_tcp_accept(bus, &listener) < 0) return 2;
        for (int size; (size = modbus_receive(bus, query)) >= 0;)
            if (size > 0) modbus_reply(bus, query, size, map);
        modbus_close(bus);
    }
}
"""


@pytest.fixture(scope="module")
def libmodbus_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small server on libmodbus, compiled here."""
    compiler = need_program("gcc", "gcc libc6-dev")
    finder = need_program("pkg-config", "pkg-config libmodbus-dev")
    folder = tmp_path_factory.mktemp("libmodbus")
    (folder / "server.c").write_text(SERVER)
    flags = subprocess.run([finder, "--cflags", "--libs", "libmodbus"], capture_output=True, text=True)
    if flags.returncode:
        need_program("libmodbus", "libmodbus-dev")  # never a program: says what is missing, as CI needs it
    program = folder / "server"
    subprocess.run([compiler, folder / "server.c", "-o", program, *flags.stdout.split()], check=True)
    return program


@asynccontextmanager
async def libmodbus(program: Path, port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(program, str(port), stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20.0) == b"ready\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def test_probe_writer_and_reader_with_a_libmodbus_server(libmodbus_server: Path) -> None:
    port = free_port()
    site = modbus_site((own_device("c1", "delta_rpu_orv3", "127.0.0.1", port),))
    async with libmodbus(libmodbus_server, port):
        (check,) = await probe(site, PROFILES)
        by = {p.point.name: p for p in check.points}
        assert by["flow_lpm"].value == pytest.approx(84.2)
        assert by["return_c"].verdict == "missing"
        assert {p.verdict for p in check.points} == {"ok", "missing"}
        writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
        assert await writer.write("c1", "flow_target_lpm", 123.4) == pytest.approx(123.4)
        async with reading(site) as rig:
            await until(lambda: float(rig.value("delta_rpu_orv3", "supply_c")[0]) == pytest.approx(32.1))
            assert rig.reader.counters.garbage == rig.reader.counters.timeouts == 0


class Tap:
    """A TCP proxy that notes every chunk, with its direction, as text2pcap reads it."""

    def __init__(self, port: int) -> None:
        self.lines: list[str] = []
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pass(reader, far_writer, "I"), self._pass(far_reader, writer, "O"))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                self.lines += [way, "000000 " + data.hex(" ")]
                writer.write(data)
        writer.close()


async def test_tshark_finds_nothing_malformed_in_what_the_tools_send(tmp_path: Path) -> None:
    need_program("text2pcap", "tshark")
    port, tapped = free_port(), free_port()
    registers = {36864: [842, 321, 400, *[0] * 23], 37375: [0] * 5, 37888: [0] * 5, 37904: [0, 0]}
    site = modbus_site((own_device("c1", "delta_rpu_orv3", "127.0.0.1", tapped, vendor="Delta"),))
    tap = Tap(port)
    async with foreign_device("127.0.0.1", port, registers, who=("Delta", "RPU", "7")):
        server = await asyncio.start_server(tap.serve, "127.0.0.1", tapped)
        async with server:
            (check,) = await probe(site, PROFILES)
            assert check.findings == []
            await scan("127.0.0.1", tapped, (1, 2), PROFILES, CLOCK, 2.0, 0.0)
            writer = ModbusWriter(site, PROFILES, CLOCK, forbidden=str)
            await writer.write("c1", "flow_target_lpm", 100.0)
    await asyncio.to_thread(dissect, tap.lines, tmp_path)


def dissect(lines: list[str], folder: Path) -> None:
    """Every segment of the run is sound Modbus, reads, a write and an identification among them."""
    (folder / "run.txt").write_text("\n".join(lines) + "\n")
    pcap = str(folder / "run.pcap")
    subprocess.run(
        [need_program("text2pcap", "tshark"), "-q", "-D", "-T", "40000,502", folder / "run.txt", pcap], check=True
    )
    fields = [need_program("tshark", "tshark"), "-r", pcap, "-T", "fields", "-e", "modbus.func_code", "-Y"]
    seen = subprocess.run([*fields, "modbus"], check=True, capture_output=True, text=True).stdout.split()
    assert len(seen) > 2 * len(PROFILES["delta_rpu_orv3"].points)
    assert {"3", "6", "43"} <= set(",".join(seen).split(","))
    bad = "_ws.malformed or (tcp.len > 0 and not modbus)"
    assert subprocess.run([*fields, bad], check=True, capture_output=True).stdout == b""
