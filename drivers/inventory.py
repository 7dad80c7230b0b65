"""Site + profiles -> point slots. Devices of one profile stand together in a slab of [devices, points]."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drivers.points import Floats, Ints, PointTable
from drivers.profile import Profile
from drivers.site.model import Device, Site

AGENT_POINTS = ("power_w", "cap_w", "epoch", "seq", "beat", "shed")
STALE_PERIODS = 3.5  # a value older than this many of its periods is STALE
DSX_MAX_AGE_S = 250.0  # the bus republishes every 100 s; two misses


@dataclass(frozen=True)
class Slab:
    """Devices of one profile: device i, point j has slot start + i * len(points) + j.

    `devices` are empty for the rack agents' slabs, whose rows are the site's racks in order.
    """

    name: str  # profile name, "agent", or "gpu" for the powers of single GPUs
    profile: Profile | None
    devices: tuple[Device, ...]
    rows: int
    points: tuple[str, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of slots."""
        return self.rows * len(self.points)

    @property
    def stop(self) -> int:
        """First slot after the slab."""
        return self.start + self.size

    def slots(self, point: str) -> Ints:
        """Slots of one point over all devices, shape [rows]; ValueError if the slab has no such point."""
        return self.start + self.points.index(point) + np.arange(self.rows) * len(self.points)

    def view(self, flat: Floats) -> Floats:
        """The slab's part of a flat point array as [rows, points]."""
        return flat[self.start : self.stop].reshape(self.rows, len(self.points))


@dataclass(frozen=True)
class Inventory:
    """Every point of a site."""

    site: Site
    slabs: tuple[Slab, ...]
    max_age_s: Floats  # [points]

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.max_age_s)

    def slab(self, name: str) -> Slab | None:
        """The slab of a profile, or None when the site has no such device."""
        return next((s for s in self.slabs if s.name == name), None)

    def table(self) -> PointTable:
        """An empty live table."""
        return PointTable(self.max_age_s.copy())


def compile_inventory(site: Site, profiles: Mapping[str, Profile]) -> Inventory:
    """Lay out the slabs: one per profile in use (by name), then the agents. KeyError on an unknown profile.

    Where the leaf is the GPU, a last slab has a point for each GPU of the largest rack; smaller racks leave theirs.
    """
    slabs: list[Slab] = []
    ages: list[Floats] = []
    start = 0
    by_profile: dict[str, list[Device]] = {}
    for device in site.devices:
        by_profile.setdefault(device.profile, []).append(device)
    for name in sorted(by_profile):
        profile, devices = profiles[name], tuple(by_profile[name])
        points = tuple(p.name for p in profile.polled())
        slabs.append(Slab(name, profile, devices, len(devices), points, start))
        age = [
            max(DSX_MAX_AGE_S, STALE_PERIODS * d.period_s) if d.protocol == "dsx" else STALE_PERIODS * d.period_s
            for d in devices
        ]
        ages.append(np.repeat(np.array(age), len(points)))
        start = slabs[-1].stop
    slabs.append(Slab("agent", None, (), len(site.racks), AGENT_POINTS, start))
    ages.append(np.full(slabs[-1].size, STALE_PERIODS))
    if site.control.leaf == "gpu":
        points = tuple(f"gpu{i}_w" for i in range(max(r.gpus for r in site.racks)))
        slabs.append(Slab("gpu", None, (), len(site.racks), points, slabs[-1].stop))
        ages.append(np.full(slabs[-1].size, STALE_PERIODS))
    return Inventory(site, tuple(slabs), np.concatenate(ages))
