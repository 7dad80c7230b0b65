"""Water on its way: the supply and the return pipe of each loop deliver what went in as long ago as the flow makes it.

Plug flow: a pipe is a row of equal cells, and what comes in pushes as much out at the other end, at the temperatures
that it has there. Water mixes within a cell only, a CELLS-th of the pipe, so a front arrives after volume / flow and is
no wider than that. Mass and heat are kept exactly. Heat of the pipes' walls, losses to the room and the time between
CDUs near and far are not modelled.
"""

from drivers.points import Floats, Ints
from sim.plant.base import DT_S, KERNEL
from sim.plant.hydraulics import Hydraulics
from sim.plant.thermal import CELLS, ThermalState

SUPPLY, RETURN = 0, 1


@KERNEL
def push(cells_c: Floats, at: Ints, filled_l: Floats, cell_l: float, dv_l: float, in_c: float, out_c: float) -> float:
    """Push `dv_l` [L] at `in_c` into one pipe: the mean temperature of what leaves, `out_c` where nothing does.

    `cells_c` [CELLS + 1] is a ring: at[0] is the cell that fills, of which `filled_l` [1] is in, the next one is the
    oldest, of which as much has left.
    """
    ring, left_l, heat = len(cells_c), dv_l, 0.0
    if dv_l >= cell_l * (ring - 1):  # all of it, and some of what came in
        for i in range(ring):
            heat += cells_c[i] * cell_l
        heat -= cells_c[at[0]] * (cell_l - filled_l[0]) + cells_c[(at[0] + 1) % ring] * filled_l[0]
        heat += (dv_l - cell_l * (ring - 1)) * in_c
        cells_c[:], filled_l[0] = in_c, 0.0
        return float(heat / dv_l)
    while left_l > 0.0:
        newest = at[0]
        oldest = (newest + 1) % ring
        part = min(left_l, cell_l - filled_l[0])
        total = filled_l[0] + part
        cells_c[newest] = (cells_c[newest] * filled_l[0] + in_c * part) / total
        heat += cells_c[oldest] * part
        filled_l[0], left_l = total, left_l - part
        if total >= cell_l * (1.0 - 1e-12):
            filled_l[0], at[0] = 0.0, oldest
    return float(heat / dv_l) if dv_l > 0.0 else out_c


@KERNEL
def run_pipes(hyd: Hydraulics, s: ThermalState) -> None:
    """One step of all pipes at the flow of their loops: what arrives at the CDUs and returns to heat rejection."""
    for k in range(len(hyd.loop_set_c)):
        cell_l = hyd.loop_pipe_l[k] / CELLS
        if cell_l <= 0.0:
            s.arriving_c[k], s.returning_c[k] = s.loop_supply_c[k], s.loop_return_c[k]
            continue
        dv_l = s.loop_flow_lpm[k] / 60.0 * DT_S
        for way in range(2):
            out_c = s.arriving_c if way == SUPPLY else s.returning_c
            in_c = s.loop_supply_c[k] if way == SUPPLY else s.loop_return_c[k]
            cells_c, at, filled_l = s.pipe_c[k, way], s.pipe_at[k, way], s.pipe_l[k, way]
            out_c[k] = push(cells_c, at, filled_l, cell_l, dv_l, in_c, out_c[k])


@KERNEL
def held_j(hyd: Hydraulics, s: ThermalState) -> float:
    """Heat of the water in all pipes, against water at 0 C [J]."""
    total = 0.0
    for k in range(len(hyd.loop_set_c)):
        cell_l = hyd.loop_pipe_l[k] / CELLS
        if cell_l <= 0.0:
            continue
        for way in range(2):
            newest, filled_l = s.pipe_at[k, way, 0], s.pipe_l[k, way, 0]
            oldest, held = (newest + 1) % (CELLS + 1), 0.0
            for i in range(CELLS + 1):
                held += s.pipe_c[k, way, i]
            held -= s.pipe_c[k, way, newest] * (1.0 - filled_l / cell_l)
            held -= s.pipe_c[k, way, oldest] * filled_l / cell_l
            total += held * cell_l * hyd.loop_w_lpm_k[k] * 60.0
    return total
