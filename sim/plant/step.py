"""One step of the water and its balance: the order in which heat moves."""

from numba import njit

from drivers.points import Floats
from sim.plant.base import DT_S, Bools
from sim.plant.cdu import ask_flow, exchange
from sim.plant.facility import reject, run_pumps
from sim.plant.hydraulics import PUMP, Hydraulics
from sim.plant.network import Racks
from sim.plant.thermal import ThermalState, cool_racks


@njit(cache=True)
def thermal_step(
    racks: Racks, hyd: Hydraulics, s: ThermalState, rack_w: Floats, cdu_on: Bools, unit_on: Bools,
    mixed_w: Floats, dry_c: float, wet_c: float,
) -> float:  # fmt: skip
    """One step for the heat of `rack_w` [R]; the relative error of its balance.

    `cdu_on` [C] and `unit_on` [U] have voltage; `mixed_w` [C] is scratch.
    """
    s.air_c[0], s.air_c[1] = dry_c, wet_c
    ask_flow(hyd, s)
    run_pumps(hyd, s, unit_on)
    stored = cool_racks(racks, hyd, s, rack_w, mixed_w)
    stored += exchange(hyd, s, cdu_on, mixed_w)
    pump_w = 0.0
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] == PUMP:
            s.mix_w[hyd.unit_loop[u]] += s.unit_w[u]
            pump_w += s.unit_w[u]
    stored += reject(hyd, s, unit_on, dry_c, wet_c)
    in_w = rack_w.sum() + s.cdu_w.sum() + pump_w
    out_w = s.loop_heat_w.sum()
    return float(abs((in_w - out_w) * DT_S - stored) / (max(in_w, 1e3) * DT_S))
