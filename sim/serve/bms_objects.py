"""The objects of a site on the DSX Exchange bus, with the metadata of each point (schemas/asyncapi/bms, v1.0.0)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.mqtt.dsx_topics import point_key, point_type, process_area
from drivers.profile import Point, Profile
from drivers.site.model import Site

# unit in the profiles -> (engUnit on the bus, factor): Rack points have fixed units, the others follow them
UNITS = {
    "W": ("kW", 1e-3),
    "VA": ("kVA", 1e-3),
    "C": ("C", 1.0),
    "L/min": ("LPM", 1.0),
    "%": ("%", 1.0),
    "kPa": ("kPa", 1.0),
}
STATES = {
    "Available": ("NotAvailable", "Available"),
    "RackLeakDetect": ("NoLeak", "Leak"),
}
RUNNING = ("NotOperating", "Operating")
METERED = ("utility_feed", "substation", "ups")  # nodes whose meters the BMS shows as PowerMeter
BMS_ID = "BMS"


@dataclass(frozen=True)
class Item:
    """Something with points: its id, where its tag paths begin, what it serves."""

    id: str
    topic: str
    serves: tuple[str, ...] = ()


@dataclass(frozen=True)
class BmsPoint:
    """One point: the topic after `PUB/Value/`, its metadata as JSON, unit in the profile, factor to the bus."""

    key: str
    metadata: bytes
    unit: str = ""
    factor: float = 1.0
    slow: bool = False


@dataclass(frozen=True)
class Group:
    """Objects of one profile: values come as [objects, points] in the order of `ids` and `names`."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    points: tuple[BmsPoint, ...]
    start: int

    @property
    def stop(self) -> int:
        """End of the group in the publisher's flat arrays."""
        return self.start + len(self.points)

    @property
    def shape(self) -> tuple[int, int]:
        """(objects, points)."""
        return len(self.ids), len(self.names)


def bms_groups(site: Site, profiles: Mapping[str, Profile]) -> dict[str, Group]:
    """Every DSX device of the site by profile, then all racks as `dsx_rack` and metered nodes as `dsx_powermeter`."""
    items: dict[str, list[Item]] = {}
    serves = _serves(site)
    for device in site.devices:
        if device.protocol == "dsx":
            items.setdefault(device.profile, []).append(
                Item(device.measures, device.topic, tuple(serves.get(device.measures, ())))
            )
    meters = [n for n in site.nodes if n.kind in METERED]
    items.setdefault("dsx_powermeter", [Item(n.id, f"electrical/{n.id}", tuple(serves.get(n.id, ()))) for n in meters])
    items.setdefault("dsx_rack", [Item(r.id, f"{r.hall}/{r.row}/{r.id}") for r in site.racks])
    groups: dict[str, Group] = {}
    start = 0
    for name, members in items.items():
        groups[name] = _group(profiles[name], members, start)
        start = groups[name].stop
    return groups


def _group(profile: Profile, items: Sequence[Item], start: int) -> Group:
    columns = profile.polled()
    points = tuple(_point(profile.object_type, item, column) for item in items for column in columns)
    return Group(tuple(i.id for i in items), tuple(c.name for c in columns), points, start)


def _point(object_type: str, item: Item, point: Point) -> BmsPoint:
    body: dict[str, object] = {"objectType": object_type, "pointType": point_type(point)}
    if object_type == "Rack":
        body |= {"rackLocationName": item.id, "rackLocationId": item.id}
    else:
        body |= {"objectName": item.id, "objectId": item.id, "servesId": list(item.serves)}
    area = process_area(point)
    if area:
        body["processArea"] = area
    factor = 1.0
    if point.unit:
        body["engUnit"], factor = UNITS[point.unit]
    else:
        texts = STATES.get(point_type(point), RUNNING)
        body["stateText"] = [{"value": value, "text": text} for value, text in enumerate(texts)]
    return BmsPoint(point_key(object_type, point, item.topic), _json(body), point.unit, factor, object_type == "Rack")


def _serves(site: Site) -> dict[str, list[str]]:
    """What each object feeds: nodes their children and racks, cooling units their loop, loops their CDUs."""
    serves: dict[str, list[str]] = {unit.id: [unit.loop] for unit in site.cooling}
    for cdu in site.cdus:
        serves.setdefault(cdu.loop, []).append(cdu.id)
    for node in site.nodes:
        if node.parent:
            serves.setdefault(node.parent, []).append(node.id)
    for rack in site.racks:
        for pdu in (rack.pdu_a, rack.pdu_b):
            serves.setdefault(pdu, []).append(rack.id)
    return serves


def system_points(site: Site) -> tuple[BmsPoint, ...]:
    """The four heartbeats: ours, our echo of the integration's, and the two that the integration publishes."""
    who = site.mqtt.integration
    bms = {"objectName": "Building management", "objectId": BMS_ID}
    them = {"objectName": who, "objectId": who}
    bodies: dict[str, dict[str, str]] = {
        "HeartbeatTimestampBms": bms,
        "HeartbeatEchoBms": them,
        "HeartbeatTimestampIntegration": them | {"integration": who},
        "HeartbeatEchoIntegration": bms | {"integration": who},
    }
    return tuple(
        BmsPoint(f"System/{kind}/{site.name}/{who}/{kind}", _json({"objectType": "System", "pointType": kind} | body))
        for kind, body in bodies.items()
    )


def request_points(site: Site) -> dict[str, BmsPoint]:
    """Supply set-points that our integration may ask of the row CDUs, by the CDU's id."""
    who = site.mqtt.integration
    kind = "LiquidTemperatureSpRequest"
    points = {}
    for cdu in site.cdus:
        if cdu.kind == "row":
            body = {"objectType": "CDU", "pointType": kind, "objectName": cdu.id, "objectId": cdu.id, "engUnit": "C"}
            body |= {"integration": who}
            points[cdu.id] = BmsPoint(f"CDU/{kind}/{site.name}/{cdu.id}/{kind}", _json(body), "C")
    return points


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
