"""How points become integers: name, step and offset of each, value = raw * step + offset.

Where a register holds an integer, raw is that integer. Elsewhere (floats, scaled values from the bus, agents) the step
is a round figure of about RESOLUTION of the element's rating, far below any meter's class.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from controller.frames import Floats, Ints
from controller.plan import Plan
from drivers.inventory import Inventory, Slab
from drivers.profile import Profile
from drivers.profile.model import RAW_RANGE, Point

MISSING = np.int32(-(2**31))  # no value
LARGEST = 2**31 - 1
RESOLUTION = 1e-5
STEP = {  # of what has no rating, by unit
    "V": 0.01, "A": 0.001, "W": 1.0, "VA": 1.0, "var": 1.0, "Hz": 0.001, "C": 0.01, "K": 0.01, "L/min": 0.1, "Pa": 1.0,
    "kPa": 0.1, "%": 0.01, "%/s": 0.01, "rpm": 1.0, "Wh": 1e3, "s": 1.0, "deg": 0.01,
}  # fmt: skip
SHARE_STEP = 1e-4  # of floats without a unit: a power factor
AGENT_STEP = {"power_w": 1.0, "cap_w": 1.0}


@dataclass(frozen=True)
class Layout:
    """Points in slot order [P]; `order` sorts them by name."""

    names: np.ndarray
    step: Floats
    offset: Floats
    order: Ints
    id: str

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.names)

    def raw(self, value: Floats) -> np.ndarray:
        """Integers of values [P], int32; MISSING where there is none or it does not fit."""
        scaled = np.rint((value - self.offset) / self.step)
        with np.errstate(invalid="ignore"):
            fits = np.abs(scaled) <= LARGEST
        out = np.full(len(scaled), MISSING, dtype=np.int32)
        out[fits] = scaled[fits].astype(np.int32)
        return out

    def save(self, folder: Path) -> None:
        """Beside the logs, once; whoever reads these needs it."""
        path = folder / f"{self.id}.npz"
        if path.exists():
            return
        scratch = path.with_suffix(".new")
        with scratch.open("wb") as file:
            np.savez_compressed(file, names=self.names, step=self.step, offset=self.offset)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)


@lru_cache(maxsize=8)
def load(folder: Path, name: str) -> Layout:
    """A saved layout, kept: its name is its content's. OSError or ValueError where it cannot be read or is damaged."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        found = _layout(file["names"], file["step"], file["offset"])
    if found.id != name:
        raise ValueError(f"{folder / name}.npz is not the layout that it is named after")
    return found


def layout_of(plan: Plan, inventory: Inventory) -> Layout:
    """The layout of a site's points; a point is named DEVICE.POINT, an agent's RACK.agent.POINT."""
    names: list[str] = []
    steps: list[float] = []
    offsets: list[float] = []
    rating = {node.id: float(w) for node, w in zip(plan.site.nodes, plan.full_w, strict=True)}
    amps = {n.id: w / (float(p) * n.volt_v) for n, w, p in zip(plan.site.nodes, plan.full_w, plan.phase, strict=True)}
    volts = {node.id: node.volt_v for node in plan.site.nodes}
    by_unit = {"W": rating, "VA": rating, "var": rating, "A": amps, "V": volts}
    for slab in inventory.slabs:
        owners = [d.id for d in slab.devices] or [f"{r.id}.agent" for r in plan.site.racks]
        points = _points(slab)
        for i, owner in enumerate(owners):
            measured = slab.devices[i].measures if slab.devices else ""
            for name, point in points:
                full = by_unit.get(point.unit, {}).get(measured) if point else None
                step, offset = _step(slab.profile, point, full) if point else (AGENT_STEP.get(name, 1.0), 0.0)
                names.append(f"{owner}.{name}")
                steps.append(step)
                offsets.append(offset)
    return _layout(np.array(names), np.array(steps), np.array(offsets))


def _points(slab: Slab) -> list[tuple[str, Point | None]]:
    if slab.profile is None:
        return [(name, None) for name in slab.points]
    return [(p.name, p) for p in slab.profile.polled()]


def _step(profile: Profile | None, point: Point, full: float | None) -> tuple[float, float]:
    on_wire = profile is not None and profile.protocol == "modbus"
    if on_wire and not point.type.startswith("f") and not point.scale_point:
        step, top = point.scale, min(point.max, RAW_RANGE[point.type][1] * point.scale)
        while (top - point.shift) / step > LARGEST:  # a counter of 32 or 64 bits
            step *= 10.0
        return step, point.shift
    if full:
        return 10.0 ** np.floor(np.log10(full * RESOLUTION)), 0.0
    return STEP.get(point.unit, SHARE_STEP if on_wire else 1.0), 0.0


def _layout(names: np.ndarray, step: Floats, offset: Floats) -> Layout:
    digest = hashlib.sha256("\n".join(names.tolist()).encode() + step.tobytes() + offset.tobytes())
    return Layout(names, step, offset, np.argsort(names, kind="stable"), digest.hexdigest()[:16])
