"""Recording and playing back: what is on the tape, what kill -9 leaves, and who can read the servers."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, pause, reading, sample, unit_device, until
from helpers_programs import free_port
from helpers_run import Process
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient
from typer.testing import CliRunner

from drivers.capture import recorder as recording
from drivers.capture.memory import Memory
from drivers.capture.playback import Playback
from drivers.capture.recorder import Recorder, free_name
from drivers.capture.serve import ServeError, Servers, moved
from drivers.capture.session import capture, polling_all
from drivers.capture.tape import Entry, Exchange, Header, Message, Note, TapeError, entry_line, open_tape
from drivers.cli import joined
from drivers.listening import Listening
from drivers.points import Quality
from drivers.probe.walk import probe
from drivers.site.model import Gateway, Site
from drivers.site.write import write_site
from sim.serve.modbus import ModbusPlant
from sim.serve.modbus_layout import Chain, Layout

QUALITIES = st.sampled_from(["good", "suspect", "bad", "silent"])
TIMES = st.floats(0, 1e9)
EXCHANGES = st.builds(Exchange, TIMES, st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=40), QUALITIES)
MESSAGES = st.builds(Message, TIMES, st.text(max_size=20), st.binary(max_size=40), st.booleans(), st.booleans())
NOTES = st.builds(Note, TIMES, st.dictionaries(st.sampled_from(["note", "mode"]), st.text(max_size=5)))


def site_on(port: int) -> Site:
    devices = [own_device("c1", "delta_rpu_orv3", "127.63.0.1", port, vendor="Delta", firmware="1.*")]
    devices.append(own_device("bess1", "sunspec_battery", "127.63.0.2", port, vendor="SunSpec"))
    devices.append(own_device("cool1", "accuchiller", "127.63.0.3", port))  # coils and discrete inputs
    devices += [unit_device(f"pdu{u}", "gw", u) for u in (1, 2, 3)]
    return modbus_site(
        tuple(devices), (Gateway(id="gw", host="127.63.1.1", port=port, service_ms=1, fed_from=("u1",)),)
    )


async def started(site: Site) -> ModbusPlant:
    plant = ModbusPlant(site, PROFILES)
    for name, slab in plant.slabs.items():
        plant.update(name, sample(len(slab.devices), name))
    await plant.start()
    return plant


def written(path: Path, *entries: Entry) -> Path:
    """A recording with these entries, made by hand."""
    header = Header("tiny", "0", 0.0, 0, 1)
    path.write_bytes(header.line() + b"".join(map(entry_line, entries)))
    return path


@given(st.lists(st.one_of(EXCHANGES, MESSAGES, NOTES), max_size=8), st.data())
def test_whatever_was_recorded_is_read_and_a_torn_last_line_is_left_out(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], data: st.DataObject
) -> None:
    path = written(tmp_path_factory.mktemp("tape") / "t", *entries)
    tape = open_tape(path)
    assert list(tape.entries()) == entries
    assert tape.faults == []
    if entries:
        whole = path.read_bytes()
        last = len(entry_line(entries[-1]))
        path.write_bytes(whole[: len(whole) - data.draw(st.integers(1, last - 1))])
        assert list(tape.entries()) == entries[:-1]
        assert "cut off" in tape.faults[0]


@given(st.binary(max_size=200))
def test_noise_in_a_recording_is_counted_and_harms_nothing(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    good = Exchange(5.0, "c1", b"\1\3\0\0\0\1", b"\1\3\2\0\7", "good")
    path = written(tmp_path_factory.mktemp("tape") / "t")
    path.write_bytes(path.read_bytes() + noise.replace(b"{", b"(") + b"\n" + entry_line(good))
    tape = open_tape(path)
    assert list(tape.entries()) == [good]
    assert tape.unread >= 1


def test_what_is_no_recording_is_refused_in_words(tmp_path: Path) -> None:
    for text in (b"", b"{}\n", b"[1]\n", b'{"headroom":"capture","v":9}\n', b"\xff\xfe"):
        (tmp_path / "t").write_bytes(text)
        with pytest.raises(TapeError, match="no recording"):
            open_tape(tmp_path / "t")
    with pytest.raises(TapeError, match="cannot be read"):
        open_tape(tmp_path / "nowhere")


@pytest.mark.parametrize("order", [(), (1, 713, 701)], ids=["all models", "a battery without 802"])
async def test_played_back_every_point_is_what_the_reader_saw(tmp_path: Path, order: tuple[int, ...]) -> None:
    site = site_on(free_port())
    plant = await started(site)
    plant._stations["bess1"].layout = Layout.of(plant.slabs["sunspec_battery"].codec, Chain(order=order))
    recorder = Recorder(tmp_path / "t", site, CLOCK)
    recorder.start()
    listening = Listening(site, PROFILES, CLOCK, tap=recorder, mqtt=False)
    await listening.start()
    try:
        plant.faults.set("pdu2", "exception", 4)
        modbus = [s for s in listening.inventory.slabs if s.devices]
        end = max(s.stop for s in modbus)
        await until(lambda: bool((listening.snapshot(CLOCK.now_s()).quality[:end] != Quality.NEVER).all()))
        for name, slab in plant.slabs.items():
            plant.update(name, sample(len(slab.devices), name, step=2.0))
        await pause(1.5)
        now_s = CLOCK.now_s()
        live = listening.snapshot(now_s)
    finally:
        await listening.stop()
        assert await recorder.stop()
        await plant.stop()
    tape = open_tape(tmp_path / "t")
    playback = Playback(site, PROFILES, tape.header)
    for entry in tape.entries():
        if entry.t_s < now_s:
            playback.play(entry)
    again = playback.snapshot(now_s)
    assert tape.faults == []
    assert (live.quality[:end] == Quality.BAD).any()
    np.testing.assert_array_equal(again.value, live.value)
    np.testing.assert_array_equal(again.quality, live.quality)
    np.testing.assert_allclose(again.time_s[:end], live.time_s[:end], atol=0.01)


async def test_the_servers_of_a_recording_pass_the_probe_and_feed_a_reader(tmp_path: Path) -> None:
    site = site_on(free_port())
    plant = await started(site)
    plant.put("sunspec_battery", "storage_status", 1.0)
    try:
        said = await capture(site, tmp_path / "t", CLOCK, 3.5, 100.0, mqtt=False, every_point=True)
    finally:
        await plant.stop()
    assert said.exchanges > 30
    assert (said.lost, said.whole, said.silent) == (0, True, ())
    servers = Servers(site)
    await servers.start()
    try:
        await servers.play(open_tape(tmp_path / "t").entries(), CLOCK, speed=100.0)
        async with reading(site) as rig:
            await until(lambda: all(rig.good(name) for name in plant.slabs))
            flow = rig.value("delta_rpu_orv3", "flow_lpm")
            assert flow == pytest.approx(sample(1, "delta_rpu_orv3")[:, 0])
        checks = await probe(site, PROFILES)
        assert [c.findings for c in checks] == [[]] * 6
        client = AsyncModbusTcpClient("127.63.1.1", port=site.gateways[0].port, retries=0, timeout=2.0)
        assert await client.connect()
        assert (await client.write_register(0, 1, device_id=1)).exception_code == 1
        assert (await client.read_holding_registers(9999, count=1, device_id=1)).exception_code == 2
        assert (await client.read_holding_registers(0, count=1, device_id=9)).exception_code == 11
        client.close()
    finally:
        await servers.stop()


@given(st.lists(st.binary(min_size=2, max_size=12)), EXCHANGES)
def test_a_recorded_device_answers_anything_and_never_raises(requests: list[bytes], heard: Exchange) -> None:
    memory = Memory()
    assert memory.answer(b"\1\3\0\0\0\1") is None  # nothing is known of it yet
    memory.take(heard)
    memory.take(Exchange(1.0, "a", b"\1\1\0\3\0\5", b"\1\1\1\x15", "good"))
    for request in requests:
        reply = memory.answer(request)
        assert reply is not None
        assert reply[:1] == request[:1]
    assert memory.answer(b"\1\1\0\4\0\3") == b"\1\1\1\2"
    memory.take(Exchange(2.0, "a", b"\1\3\0\0\0\1", b"", "silent"))
    assert memory.answer(b"\1\1\0\4\0\3") is None


async def test_a_full_file_is_turned_over_and_both_halves_are_played(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "t", modbus_site(()), CLOCK, most_mb=0.02)
    for k in range(300):
        recorder.exchange("c1", b"\1\3\0\0\0\1", k.to_bytes(60, "big"), "good")
        if k % 20 == 0:
            recorder._hand_over()
    assert await recorder.stop()
    sizes = [p.stat().st_size for p in (tmp_path / "t", tmp_path / "t.1")]
    assert sum(sizes) < 30_000
    tape = open_tape(tmp_path / "t")
    assert [int.from_bytes(e.reply, "big") for e in tape.entries() if isinstance(e, Exchange)][-1] == 299
    assert tape.header.part > 1
    assert free_name(tmp_path / "t") == tmp_path / "t-2"
    assert free_name(tmp_path / "new.jsonl") == tmp_path / "new.jsonl"


async def test_a_disk_that_stands_still_costs_lines_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands, write = threading.Event(), recording._File.write

    def slow(file: recording._File, batch: list[Entry]) -> None:
        stands.wait(30.0)
        write(file, batch)

    monkeypatch.setattr(recording._File, "write", slow)
    recorder = Recorder(tmp_path / "t", modbus_site(()), CLOCK)
    took_s = []
    for k in range((recording.DEPTH + 20) * recording.BATCH):
        begin_s = CLOCK.now_s()
        recorder.exchange("c1", b"\1\3\0\0\0\1", k.to_bytes(4, "big"), "good")
        took_s.append(CLOCK.now_s() - begin_s)
    assert np.percentile(took_s, 99) < 0.001
    stands.set()
    assert await recorder.stop()
    tape = open_tape(tmp_path / "t")
    heard = sum(isinstance(e, Exchange) for e in tape.entries())
    assert recorder.dropped > 0
    assert heard + recorder.dropped >= recorder.exchanges
    assert tape.lost == pytest.approx(recorder.dropped, abs=2 * recording.BATCH)
    assert "were lost" in tape.faults[0]
    assert "are missing in the recording" in recorder.alarms()[0]


async def test_a_full_disk_is_said_in_the_recording_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, full = os.write, [False]

    def write(handle: int, data: bytes) -> int:
        if full[0]:
            if len(data) > 40:
                return real(handle, data[:40])  # as a disk that takes a part of a line
            raise OSError(28, "No space left on device")
        return real(handle, data)

    recorder = Recorder(tmp_path / "t", modbus_site(()), CLOCK)
    monkeypatch.setattr(os, "write", write)
    file = recorder._file
    entries: list[Entry] = [Exchange(float(k), "c1", b"\1\3\0\0\0\1", b"\1\3\2\0\7", "good") for k in range(6)]
    file.write(entries[:2])
    full[0] = True
    file.write(entries[2:4])
    full[0] = False
    file.write(entries[4:])
    assert await recorder.stop()
    tape = open_tape(tmp_path / "t")
    times = [e.t_s for e in tape.entries() if isinstance(e, Exchange)]
    assert times[:2] + times[-2:] == [0.0, 1.0, 4.0, 5.0]
    assert tape.lost == recorder.lost == 2
    assert "No space left" in caplog.text


async def test_a_disk_that_takes_no_header_costs_lines_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the turn-over: the old part is whole, the new one begins when there is room again."""
    recorder = Recorder(tmp_path / "t", modbus_site(()), CLOCK, most_mb=0.0006)
    file = recorder._file
    batch: list[Entry] = [Exchange(1.0, "c1", b"\1\3\0\0\0\1", b"\1\3\2\0\7", "good")]
    for _ in range(3):
        file.write(batch)
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:10]))
    file.write(batch)
    file.write(batch)
    monkeypatch.undo()
    assert recorder.lost == 2
    file.write(batch)
    assert await recorder.stop()
    tape = open_tape(tmp_path / "t")
    assert len(list(tape.entries())) == 5  # three, the note of what is missing, and the last
    assert tape.lost == 2
    assert tape.unread == 0


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
async def test_what_ends_a_capture_leaves_a_recording(tmp_path: Path, sign: signal.Signals) -> None:
    site = site_on(free_port())
    plant = await started(site)
    write_site(site, tmp_path / "site")
    process = Process("capture", str(tmp_path / "site"), str(tmp_path / "t"), "--no-mqtt")
    await process.start()
    try:
        path = tmp_path / "t"
        await until(lambda: path.exists() and path.stat().st_size > 5_000)
        await pause(1.0)
        before = path.stat().st_size
        await process.kill(sign)
    finally:
        await plant.stop()
    assert path.stat().st_size >= before
    assert path.stat().st_mode & 0o77 == 0
    tape = open_tape(path)
    playback = Playback(site, PROFILES, tape.header)
    for entry in tape.entries():
        playback.play(entry)
    slab = playback.inventory.slab("delta_rpu_orv3")
    assert slab is not None
    shown = slab.view(playback.snapshot(playback.clock.now_s()).value)
    assert shown == pytest.approx(sample(1, "delta_rpu_orv3"))


def test_a_site_elsewhere_is_served_here_under_other_addresses() -> None:
    devices = (own_device("a", "delta_rpu_orv3", "10.1.2.3", 502), own_device("b", "delta_rpu_orv3", "10.1.2.4", 502))
    gateways = (Gateway(id="gw", host="meters.example", port=502, service_ms=1, fed_from=()),)
    site = moved(modbus_site((*devices, unit_device("c", "gw", 1)), gateways), 1600)
    places = {(d.host, d.port) for d in site.devices if d.host} | {(g.host, g.port) for g in site.gateways}
    assert len(places) == 3
    assert all(host.startswith("127.70.0.") and port == 1600 for host, port in places)
    assert moved(site) is site


async def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    site = site_on(free_port())
    first, second = Servers(site), Servers(site)
    await first.start()
    try:
        with pytest.raises(ServeError, match=r"127\.63\.0\.1:.*stop what listens there"):
            await second.start()
    finally:
        await first.stop()


def test_the_command_refuses_a_file_that_is_there(tmp_path: Path) -> None:
    write_site(site_on(free_port()), tmp_path / "site")
    (tmp_path / "t").write_text("mine")
    got = CliRunner().invoke(joined(), ["capture", str(tmp_path / "site"), str(tmp_path / "t"), "--for", "1"])
    assert got.exit_code == 1
    assert "is there already" in got.output
    assert (tmp_path / "t").read_text() == "mine"


def test_every_point_of_a_modbus_profile_can_be_polled() -> None:
    for name, profile in polling_all(PROFILES).items():
        modbus = profile.protocol == "modbus"
        assert len(profile.polled()) == (len(profile.points) if modbus else len(PROFILES[name].polled()))
