"""Which instruments and gateways have power: what is fed from dead nodes alone falls silent with them.

A device without feeds of its own lives with what it measures: a node, a rack's cords, a CDU's feeds. Storage answers
from its own energy, and what the BMS shows (DSX) from the BMS's.
"""

from collections.abc import Sequence

import numpy as np

from drivers.site.model import Device, Site
from sim.plant.base import Bools, ints


class Powered:
    """Devices and gateways by position; worked out again when who has voltage changes."""

    def __init__(self, site: Site, live: Bools) -> None:
        self._live, self._seen = live, b""
        feeds: dict[str, tuple[str, ...]] = {n.id: (n.id,) for n in site.nodes}
        feeds |= {r.id: (r.pdu_a, r.pdu_b) for r in site.racks} | {c.id: c.fed_from for c in site.cdus}
        feeds |= {u.id: u.fed_from for u in site.cooling}
        fed = [_feeds(d, feeds) for d in site.devices] + [g.fed_from for g in site.gateways]
        self._devices = len(site.devices)
        self._ptr = np.concatenate([[0], np.cumsum([max(len(x), 1) for x in fed])]).astype(np.int64)
        own = len(site.nodes)  # stands for a supply of one's own
        self._fed = ints(site.node_index[n] if n else own for x in fed for n in (x or ("",)))
        self._lit = np.ones(len(fed), dtype=bool)

    def lit(self) -> tuple[Bools, Bools]:
        """Devices and gateways that have power now."""
        seen = self._live.tobytes()
        if seen != self._seen:
            self._seen = seen
            live = np.append(self._live, True)[self._fed]
            self._lit = np.logical_or.reduceat(live, self._ptr[:-1]) if len(self._lit) else self._lit
        return self._lit[: self._devices], self._lit[self._devices :]


def _feeds(device: Device, feeds: dict[str, tuple[str, ...]]) -> Sequence[str]:
    """Nodes of which any one keeps a device alive; none when it has a supply of its own."""
    if device.fed_from or device.protocol != "modbus_tcp":
        return device.fed_from
    return feeds.get(device.measures, ())
