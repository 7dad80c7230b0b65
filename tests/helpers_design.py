"""A small site at full demand under limits of a test's own, as the real stages see it."""

from dataclasses import replace

import numpy as np
from helpers_control import Bench

from controller.cycle import State
from controller.design import design
from controller.frames import Floats, Frames


def full(b: Bench, losses: bool = False, **room_w: float) -> tuple[Frames, State]:
    """The site at full demand, with other room in the rows that are named; no loss binds unless it shall."""
    frames, state = design(b.plan, b.inventory)
    room = frames.limits.room_w.copy()
    if not losses:
        room[len(b.plan.row_name) :] = np.inf
    for name, watts in room_w.items():
        room[b.plan.row_name.index(name)] = watts
    return under(frames, room), state


def under(frames: Frames, room_w: Floats) -> Frames:
    return replace(frames, limits=replace(frames.limits, room_w=room_w))
