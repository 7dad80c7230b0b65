"""A site with more racks, or with racks that draw more, in the same shell.

The shell is everything that is shared: feeds to busways, loops and their cooling, row CDUs, storage. What belongs to a
rack grows with it: its PDUs and their meters, its in-rack CDU. Safe caps go down as the racks grow, to their floors at
the lowest, so that what is safe for the shell stays as it was.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from drivers.lease.message import MAX_RACKS
from drivers.site.model import Cdu, Device, Node, Rack, Site, SiteModel

T = TypeVar("T", bound=SiteModel)


def more_racks(site: Site, factor: float) -> Site:
    """The site with `factor` times its racks, 1 to 2: copies of racks evenly over it, on the same busways and loops.

    ValueError for another factor.
    """
    if not 1.0 <= factor <= 2.0:
        raise ValueError(f"{factor:g} times the racks: give 1 to 2")
    count = round((factor - 1.0) * len(site.racks))
    chosen = np.linspace(0, len(site.racks) - 1, count).round().astype(int) if count else ()
    twins = [_Twin(site, site.racks[i]) for i in chosen]
    groups = Counter(r.lease_group for r in site.racks)
    racks = [t.rack.model_copy(update={"lease_group": _group(groups, t.rack.lease_group)}) for t in twins]
    return site.model_copy(
        update={
            "nodes": (*site.nodes, *(n for t in twins for n in t.nodes)),
            "cdus": (*site.cdus, *(c for t in twins for c in t.cdus)),
            "devices": (*site.devices, *(d for t in twins for d in t.devices)),
            "racks": _safe([*site.racks, *racks], sum(r.safe_cap_w for r in site.racks)),
        }
    )


def denser_racks(site: Site, factor: float) -> Site:
    """The site with racks of `factor` times the power, 1 to 2; what belongs to a rack is built for it."""
    if not 1.0 <= factor <= 2.0:
        raise ValueError(f"{factor:g} times the power: give 1 to 2")
    powers = ("other_w", "idle_w", "floor_w", "max_w", "safe_cap_w")
    own = {r.cdu for r in site.racks} & {c.id for c in site.cdus if c.kind == "in_rack"}
    racks = [_times(r, factor, powers) for r in site.racks]
    return site.model_copy(
        update={
            "nodes": tuple(_times(n, factor, ("rating",)) if n.kind == "pdu" else n for n in site.nodes),
            "cdus": tuple(_times(c, factor, ("capacity_w", "flow_lpm")) if c.id in own else c for c in site.cdus),
            "racks": _safe(racks, sum(r.safe_cap_w for r in site.racks)),
        }
    )


class _Twin:
    """A copy of a rack with what is its own."""

    def __init__(self, site: Site, rack: Rack) -> None:
        own = {rack.pdu_a, rack.pdu_b}
        cdu = next(c for c in site.cdus if c.id == rack.cdu)
        own |= {rack.cdu} if cdu.kind == "in_rack" else set()
        name = {old: f"{old}-twin" for old in own}
        self.nodes: tuple[Node, ...] = tuple(_named(n, name) for n in site.nodes if n.id in own)
        self.cdus: tuple[Cdu, ...] = tuple(
            _named(c, name).model_copy(update={"fed_from": tuple(name.get(f, f) for f in c.fed_from)})
            for c in site.cdus
            if c.id in own
        )
        self.devices: tuple[Device, ...] = tuple(
            d.model_copy(update={"id": f"{d.id}-twin", "measures": name[d.measures]})
            for d in site.devices
            if d.measures in own
        )
        links = {"pdu_a": name[rack.pdu_a], "pdu_b": name[rack.pdu_b], "cdu": name.get(rack.cdu, rack.cdu)}
        self.rack = rack.model_copy(update={"id": f"{rack.id}-twin", **links})


def _named(thing: T, name: dict[str, str]) -> T:
    return thing.model_copy(update={"id": name[getattr(thing, "id")]})  # noqa: B009 - every table has ids


def _group(groups: Counter[str], wanted: str) -> str:
    """The lease group of a rack that comes in: the one it belongs to while a message holds it, else the next."""
    name, number = wanted, 1
    while groups[name] >= MAX_RACKS:
        number += 1
        name = f"{wanted}-{number}"
    groups[name] += 1
    return name


def _times(thing: T, factor: float, names: Sequence[str]) -> T:
    return thing.model_copy(update={n: getattr(thing, n) * factor for n in names})


def _safe(racks: Sequence[Rack], together_w: float) -> tuple[Rack, ...]:
    """The racks with safe caps that come to `together_w` again, each at its floor or above."""
    part = min(1.0, together_w / sum(r.safe_cap_w for r in racks))
    return tuple(r.model_copy(update={"safe_cap_w": max(r.floor_w, r.safe_cap_w * part)}) for r in racks)
