"""The tiny site with Sparkplug devices: a meter behind an edge node, racks as devices of another."""

from collections.abc import Sequence

from helpers_site import tiny_site
from hypothesis import strategies as st

from drivers.clock import VirtualClock
from drivers.inventory import Inventory, compile_inventory
from drivers.mqtt.sparkplug.host import SparkplugHost
from drivers.mqtt.sparkplug.payload import SIGNED, UNSIGNED, DataType, Message, Metric, decode, encode
from drivers.mqtt.sparkplug.topics import Place
from drivers.points import PointTable
from drivers.profile import load_profiles
from drivers.site.model import Device, Site

PROFILES = load_profiles()
GROUP, ROW, METER = "Memphis1", "row1", "meters"  # no blanks: nats-server carries none


def sparkplug_site() -> Site:
    """Two racks and a UPS on Sparkplug, beside what the tiny site has."""
    site = tiny_site()
    ups = next(n.id for n in site.nodes if n.kind == "ups")
    more = [
        Device(
            id=f"sp-{rack.id}",
            profile="sparkplug_rack",
            protocol="sparkplug",
            topic=f"{GROUP}/{ROW}/{rack.id}",
            measures=rack.id,
        )
        for rack in site.racks[:2]
    ]
    meter = Device(id="sp-ups", profile="sparkplug_meter", protocol="sparkplug", topic=f"{GROUP}/{METER}", measures=ups)
    kept = [d for d in site.devices if d.measures not in (ups, *(r.id for r in site.racks[:2]))]
    return site.model_copy(update={"devices": (*kept, *more, meter)})


class Bench:
    """A host application on virtual time; what it publishes is in `sent`, what it reads in the table."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.sent: list[tuple[str, bytes, bool, int]] = []
        self.inventory: Inventory = compile_inventory(sparkplug_site(), PROFILES)
        self.table: PointTable = self.inventory.table()
        self.host = SparkplugHost(self.inventory, self.table, self.clock, self._publish, "headroom")
        self.rack = sparkplug_site().racks[0].id

    def _publish(self, topic: str, payload: bytes, retain: bool, qos: int) -> bool:
        self.sent.append((topic, payload, retain, qos))
        return True

    def say(
        self,
        kind: str,
        seq: int | None,
        metrics: Sequence[Metric] = (),
        device: str = "",
        node: str = ROW,
        retained: bool = False,
    ) -> None:
        """A message of an edge node reaches the host."""
        place = Place(GROUP, kind, node, device)
        payload = encode(Message(tuple(metrics), self.clock.wall_ms(), seq))
        self.host.receive(place.topic, payload, retained)

    def slot(self, point: str, profile: str = "sparkplug_rack") -> int:
        """Slot of a point of the first device."""
        slab = self.inventory.slab(profile)
        assert slab is not None
        return int(slab.slots(point)[0])

    def state(self, point: str, profile: str = "sparkplug_rack") -> tuple[float, int]:
        """Value and quality of a point of the first device."""
        slot = self.slot(point, profile)
        return float(self.table.value[slot]), int(self.table.quality[slot])

    def tick(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(round(seconds)):
            self.clock.advance(1.0)
            self.host.tick()

    def rebirths(self) -> list[str]:
        """Nodes that were asked to be born again, in order; forgets them."""
        asked = [topic for topic, payload, _, _ in self.sent if "/NCMD/" in topic and decode(payload)]
        self.sent.clear()
        return [topic.rpartition("/")[2] for topic in asked]


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    """Any metric that can be written."""
    kind = draw(st.sampled_from(list(DataType)))
    if kind in SIGNED:
        bits = SIGNED[kind]
        value: float | int | bool | str | None = draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    elif kind in UNSIGNED:
        value = draw(st.integers(0, 2 ** UNSIGNED[kind] - 1))
    elif kind in (DataType.FLOAT, DataType.DOUBLE):
        value = draw(st.floats(allow_nan=False, width=32 if kind == DataType.FLOAT else 64))
    elif kind == DataType.BOOLEAN:
        value = draw(st.booleans())
    else:
        value = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    value = draw(st.sampled_from([value, value, None]))
    numbers = st.none() | st.integers(0, 2**64 - 1)
    name = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    return Metric(name, value, kind, draw(numbers), draw(numbers), draw(st.booleans()))
