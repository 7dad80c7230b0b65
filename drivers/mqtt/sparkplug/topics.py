"""Sparkplug B topics: spBv1.0/GROUP/TYPE/NODE[/DEVICE], and STATE/HOST."""

from typing import NamedTuple

NAMESPACE = "spBv1.0"
NODE_TYPES = ("NBIRTH", "NDEATH", "NDATA", "NCMD")
DEVICE_TYPES = ("DBIRTH", "DDEATH", "DDATA", "DCMD")


class Place(NamedTuple):
    """Where a message comes from or goes to; no device: the edge node itself."""

    group: str
    kind: str
    node: str
    device: str = ""

    @property
    def topic(self) -> str:
        """The topic."""
        return f"{NAMESPACE}/{self.group}/{self.kind}/{self.node}" + (f"/{self.device}" if self.device else "")


def parse(topic: str) -> Place | None:
    """The place of a node's or device's topic, None for any other topic."""
    parts = topic.split("/")
    if len(parts) not in (4, 5) or parts[0] != NAMESPACE or not all(parts):
        return None
    place = Place(parts[1], parts[2], *parts[3:])
    return place if place.kind in (DEVICE_TYPES if place.device else NODE_TYPES) else None


def state_topic(host: str) -> str:
    """Where a host application says whether it is there."""
    return f"{NAMESPACE}/STATE/{host}"


def address(topic: str) -> tuple[str, str, str] | None:
    """Group, node and device of a `topic` column: GROUP/NODE or GROUP/NODE/DEVICE; None if it is neither."""
    parts = topic.split("/")
    if len(parts) not in (2, 3) or not all(parts) or any(c in topic for c in "#+"):
        return None
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""
