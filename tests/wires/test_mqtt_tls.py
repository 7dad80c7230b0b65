"""Mutual TLS and a password at real brokers: all links come up and come back, strangers do not get in."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop
from helpers_mqtt import BROKERS, CLOCK, Ends, open_broker, until
from helpers_site import tiny_site
from helpers_sparkplug import sparkplug_site
from helpers_tls import Authority

import drivers.mqtt.client
import drivers.mqtt.stream
from drivers.mqtt.client import Session
from drivers.mqtt.endpoint import Endpoint, endpoint
from drivers.mqtt.link import Link
from drivers.mqtt.packets import Message
from drivers.mqtt.stream import Stream
from drivers.points import Quality
from drivers.supervise import Backoff
from sim.lab.broker import Broker, Kind, Tls

QUICK = Backoff(first_s=0.05, longest_s=0.2)


class Place:
    """A site's authority, its broker's files and a client's endpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority.new(folder / "ca")
        self.ca = self.authority.folder / "ca.pem"
        self.client = self.authority.sign("controller")
        self.tls = Tls(self.ca, *self.authority.sign("broker", "127.0.0.1"))

    def where(self, broker: Broker) -> Endpoint:
        """How a good client comes in."""
        files = (str(path) for path in (self.ca, *self.client))
        return Endpoint("127.0.0.1", broker.port, "plant", "s3cret", *files)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("kind", BROKERS)
async def test_every_link_comes_up_works_and_comes_back(kind: Kind, place: Place) -> None:
    with open_broker(kind, "plant", "s3cret", place.tls) as broker:
        ends = Ends(sparkplug_site(), broker, place.where(broker))
        await ends.start()
        await until(lambda: all(h.up or h.detail == "no heartbeat from the BMS" for h in ends.wires.health()))
        await ends.cycle(50_000)
        await ends.cycle(51_000)
        assert (ends.holder.in_force_w == 51_000).all()
        assert ends.ledger.settled.all()
        slab = ends.inventory.slab("dsx_loop")
        assert slab is not None
        ends.plant.update_bms({name: np.full(g.shape, 20.0) for name, g in ends.plant.bms.groups.items()})
        await until(lambda: bool((ends.table.quality[slab.slots("supply_c")] == Quality.GOOD).all()))
        broker.kill()
        await until(lambda: not ends.plant.up and not ends.wires.health()[0].up)
        broker.start()
        await until(lambda: ends.plant.up and all(h.up for h in ends.wires.health()))
        await ends.cycle(52_000)
        await ends.cycle(53_000)
        assert (ends.holder.in_force_w == 53_000).all()
        await ends.stop()


def links(where: Endpoint) -> list[Link]:
    session = Session(
        where, CLOCK, name="session", subscriptions=["#"], on_message=lambda *_: None, probe_topic="p/s", backoff=QUICK
    )
    stream = Stream(
        where, CLOCK, name="stream", subscriptions=["#"], on_messages=lambda _: None, probe_topic="p/t", backoff=QUICK
    )
    return [session, stream]


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize(
    ("flaw", "says"),
    [
        ("no certificate", ""),
        ("a stranger's certificate", ""),
        ("another authority", "CERTIFICATE_VERIFY_FAILED"),
        ("another name", "CERTIFICATE_VERIFY_FAILED"),
        ("no TLS", ""),
        ("a wrong password", ""),
        ("a missing file", "No such file"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # paho leaves closing to its end
async def test_a_flaw_keeps_a_link_out_and_alive(
    kind: Kind, flaw: str, says: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (drivers.mqtt.client, drivers.mqtt.stream):
        monkeypatch.setattr(module, "CONNECT_S", 1.0)
    tls = place.tls
    if flaw == "another name":
        tls = Tls(place.ca, *place.authority.sign("elsewhere", "127.9.9.9"))
    with open_broker(kind, "plant", "s3cret", tls) as broker:
        where = place.where(broker)
        if flaw == "no certificate":
            where = replace(where, tls_cert=None, tls_key=None)
        elif flaw == "a stranger's certificate":
            cert, key = Authority.new(place.folder / "stranger").sign("controller")
            where = replace(where, tls_cert=str(cert), tls_key=str(key))
        elif flaw == "another authority":
            where = replace(where, tls_ca=str(Authority.new(place.folder / "other").folder / "ca.pem"))
        elif flaw == "no TLS":
            where = Endpoint("127.0.0.1", broker.port, "plant", "s3cret")
        elif flaw == "a wrong password":
            where = replace(where, password="wrong")
        elif flaw == "a missing file":
            where = replace(where, tls_ca="/nowhere/ca.pem")
        for link in links(where):
            link.start()
            await until(lambda link=link: link.counters["reconnects"] > 1)  # type: ignore[misc]
            assert not link.up
            assert says in link.detail
            assert link.detail
            await link.stop()


def test_the_stream_speaks_tls_on_the_controllers_own_loop(place: Place) -> None:
    async def main(broker: Broker) -> None:
        got: list[Message] = []
        where = place.where(broker)
        stream = Stream(
            where, CLOCK, name="s", subscriptions=["t"], on_messages=got.extend, probe_topic="p/t", backoff=QUICK
        )
        speaker = Session(where, CLOCK, name="x", subscriptions=[], on_message=lambda *_: None)
        stream.start()
        speaker.start()
        await until(lambda: stream.up and speaker.up)
        for i in range(3000):
            speaker.publish("t", b"%d" % i)
        await until(lambda: len(got) == 3000)
        assert [payload for _, payload, _ in got] == [b"%d" % i for i in range(3000)]
        broker.kill()
        await until(lambda: not stream.up)
        broker.start()
        await until(lambda: stream.up)
        await asyncio.gather(stream.stop(), speaker.stop())

    with open_broker("mosquitto", "plant", "s3cret", place.tls) as broker:
        uvloop.run(main(broker))


async def test_half_a_setting_is_never_plain_text(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = place.client
    environ = {"HEADROOM_MQTT_CERT": str(cert), "HEADROOM_MQTT_KEY": str(key)}
    assert endpoint("broker.example", 8883, environ).tls_context() is not None
    assert endpoint("broker.example", 8883, {}).tls_context() is None
    assert not caplog.records
    endpoint("127.0.0.1", 1883, {"HEADROOM_MQTT_USERNAME": "a", "HEADROOM_MQTT_PASSWORD": "b"})
    assert not caplog.records
    endpoint("broker.example", 1883, {"HEADROOM_MQTT_USERNAME": "a", "HEADROOM_MQTT_PASSWORD": "b"})
    assert "s3cret" not in repr(Endpoint("b", 1, "plant", "s3cret"))
    assert "in clear" in caplog.text
    assert "HEADROOM_MQTT_CA" in caplog.text


async def test_a_password_alone_without_tls_files_works_as_before() -> None:
    with open_broker("mosquitto", "plant", "s3cret") as broker:
        ends = Ends(tiny_site(), broker)
        await ends.start()
        await ends.stop()
