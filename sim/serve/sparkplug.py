"""The plant's Sparkplug side: an edge node for each GROUP/NODE that the site names, on a connection of its own."""

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from drivers.clock import Clock
from drivers.mqtt.client import Session, last_will
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.sparkplug.edge import EdgeNode
from drivers.mqtt.sparkplug.topics import address
from drivers.profile import Profile
from drivers.site.model import Device, Site

Floats = NDArray[np.float64]


class _Edge:
    """One edge node and its session."""

    def __init__(
        self, where: Endpoint, clock: Clock, site: Site, name: tuple[str, str], devices: Mapping[str, list[str]]
    ) -> None:
        group, node = name
        self.node = EdgeNode(group, node, devices, clock, self._publish, host=site.mqtt.sparkplug_host)
        self.session = Session(
            where,
            clock,
            name=f"edge node {group}/{node}",
            subscriptions=self.node.subscriptions,
            on_message=self.node.receive,
            on_connect=self.node.connected,
            probe_topic=f"headroom/v1/{site.name}/probe/edge-{group}-{node}",
            will=lambda: last_will(self.node.will(), retain=False),
        )

    def _publish(self, topic: str, payload: bytes, retain: bool, qos: int) -> bool:
        return self.session.publish(topic, payload, retain=retain, qos=qos)


class SparkplugPlant:
    """Every Sparkplug device of the site, by profile as `groups` (ids of the things, names of the points).

    Edge nodes speak while our controller's host application is online, as primary host.
    """

    def __init__(self, site: Site, profiles: Mapping[str, Profile], clock: Clock, where: Endpoint) -> None:
        self.devices: dict[str, list[Device]] = {}
        self._profiles = profiles
        metrics: dict[tuple[str, str], dict[str, list[str]]] = {}
        for device in site.devices:
            place = address(device.topic) if device.protocol == "sparkplug" else None
            if place is not None:
                self.devices.setdefault(device.profile, []).append(device)
                group, node, name = place
                columns = profiles[device.profile].polled()
                metrics.setdefault((group, node), {}).setdefault(name, []).extend(p.topic for p in columns)
        self.edges = {name: _Edge(where, clock, site, name, devices) for name, devices in metrics.items()}

    @property
    def sessions(self) -> list[Session]:
        """The connections."""
        return [edge.session for edge in self.edges.values()]

    def names(self, profile: str) -> tuple[str, ...]:
        """Points of a profile in the order that `update` takes."""
        return tuple(p.name for p in self._profiles[profile].polled())

    def update(self, values: Mapping[str, Floats]) -> None:
        """New values by profile, [devices, points] in our units; each goes out in its metric's own."""
        for profile, array in values.items():
            columns = self._profiles[profile].polled()
            shift = np.array([p.shift for p in columns])
            scale = np.array([p.scale for p in columns])
            for device, row in zip(self.devices[profile], (array - shift) / scale, strict=True):
                place = address(device.topic)
                assert place is not None
                group, node, name = place
                self.edges[group, node].node.update(name, row)

    def hide(self, silent: Collection[str]) -> None:
        """Devices (by id) that do not speak; all others do."""
        for device in (d for devices in self.devices.values() for d in devices):
            place = address(device.topic)
            assert place is not None
            group, node, name = place
            self.edges[group, node].node.set_alive(name, device.id not in silent)

    def tick(self) -> None:
        """Let every node publish what is due."""
        for edge in self.edges.values():
            if edge.session.up:
                edge.node.tick()

    def die(self) -> None:
        """Say that every node goes, before the connections close in order."""
        for edge in self.edges.values():
            edge.node.die()

    @property
    def counters(self) -> Counter[str]:
        """Counts of all nodes and their links."""
        total: Counter[str] = Counter()
        for edge in self.edges.values():
            total += edge.node.counters + edge.session.counters
        return total
