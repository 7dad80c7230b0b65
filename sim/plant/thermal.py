"""Heat from silicon to weather: plates, rack coolant, CDUs, facility loops, pumps and heat rejection.

Lumps: silicon and fluid of each rack, supply and return half of each CDU circuit and of each loop. Heat that a rack
gives to air goes through its rear door into the same loop's return, without delay. Pump power becomes heat of the
water that it moves. Heat of the electrical rooms is not in the loops: their cooling is a load of the site.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from drivers.points import Floats
from sim.plant.network import CHILLER, DRY_COOLER, DT_S, PUMP, Bools, Hydraulics, Racks

DESIGN_DRY_C, DESIGN_WET_C = 36.0, 26.0  # unit capacities hold at these and at the loop's design return
CHILLER_DERATE_PER_K = 0.015  # capacity lost per kelvin above the design dry-bulb
CHILLER_POWER_PER_K = 0.025
MOST = 1.05  # of a unit's capacity, however warm its water: fill, coils and fans were built for it
FREE_CONVECTION = 0.125  # share of a dry cooler's heat with its fans off (FACTS P.7)
VALVE_KP_PER_K, VALVE_TI_S = 0.1, 40.0  # FACTS P.7 gives k=1 over 10 K; Ti shortened, our lumps are smaller
CDU_PUMP_UP_S, CDU_PUMP_DOWN_S = 5.0, 1.5
PUMP_UP_S, PUMP_DOWN_S = 5.0, 3.0
STANDBY_DELAY_S = 4.0
REJECTION_TAU_S = 30.0
CDU_PUMP_LEAST, PUMP_LEAST = 0.05, 0.2  # of the speed at capacity


class ThermalState(NamedTuple):
    """Changes in place, step by step. Temperatures in C."""

    silicon_c: Floats  # [R]
    fluid_c: Floats  # [R] coolant leaving the rack
    cdu_supply_c: Floats  # [C] to the racks
    cdu_return_c: Floats
    cdu_flow_lpm: Floats
    cdu_target_lpm: Floats
    cdu_target_c: Floats
    cdu_heat_w: Floats  # over the heat exchanger
    cdu_w: Floats  # pump power
    valve: Floats  # [C] 0..1
    valve_i: Floats  # integral part
    loop_supply_c: Floats  # [L]
    loop_return_c: Floats
    loop_flow_lpm: Floats
    loop_heat_w: Floats  # rejected now
    rejecting_w: Floats  # [L] controller output, before weather has its say
    unit_ok: Bools  # [U] not tripped
    unit_wait_s: Floats  # a standby pump's start delay so far
    unit_speed: Floats  # [U] 0..1 of what it does when on
    unit_w: Floats  # electrical
    unit_heat_w: Floats  # rejected
    air_c: Floats  # [2] dry-bulb and wet-bulb outside
    asked_lpm: Floats  # [L] scratch: what the valves ask
    granted: Floats  # [L] scratch: share of it that the pumps deliver
    mix_w: Floats  # [L] scratch: heat carried to the return by CDUs and rear doors


class Heat(NamedTuple):
    """Totals of one step."""

    in_w: float
    rejected_w: float
    residual: float  # relative


def start_thermal(racks: Racks, hyd: Hydraulics) -> ThermalState:
    """Near the working point at set-points, pumps on, valves half open."""
    c, loops, u = len(hyd.cdu_loop), len(hyd.loop_set_c), len(hyd.unit_kind)
    supply = hyd.cdu_set_c.copy()
    return ThermalState(
        silicon_c=supply[racks.cdu] + 30.0,
        fluid_c=supply[racks.cdu] + 6.0,
        cdu_supply_c=supply,
        cdu_return_c=supply + 6.0,
        cdu_flow_lpm=hyd.cdu_flow_lpm.copy(),
        cdu_target_lpm=hyd.cdu_flow_lpm.copy(),
        cdu_target_c=hyd.cdu_set_c.copy(),
        cdu_heat_w=np.zeros(c),
        cdu_w=np.zeros(c),
        valve=np.full(c, 0.6),
        valve_i=np.full(c, 0.6),
        loop_supply_c=hyd.loop_set_c.copy(),
        loop_return_c=hyd.loop_set_c + 6.0,
        loop_flow_lpm=0.8 * hyd.loop_flow_lpm,
        loop_heat_w=np.zeros(loops),
        rejecting_w=0.8 * hyd.loop_flow_lpm * hyd.loop_w_lpm_k * 6.0,
        unit_ok=np.ones(u, dtype=bool),
        unit_wait_s=np.zeros(u),
        unit_speed=np.where(hyd.unit_standby, 0.0, 1.0),
        unit_w=np.zeros(u),
        unit_heat_w=np.zeros(u),
        air_c=np.full(2, np.nan),
        asked_lpm=np.zeros(loops),
        granted=np.zeros(loops),
        mix_w=np.zeros(loops),
    )


@njit(cache=True)
def effectiveness(ntu: float, ratio: float) -> float:
    """Counter-flow heat exchanger: share of the greatest possible heat, from NTU and C_min / C_max (Kays, London)."""
    if ratio > 0.9999:
        return ntu / (1.0 + ntu)
    e = math.exp(-ntu * (1.0 - ratio))
    return (1.0 - e) / (1.0 - ratio * e)


@njit(cache=True)
def cool_racks(racks: Racks, hyd: Hydraulics, s: ThermalState, rack_w: Floats, mixed_w: Floats) -> float:
    """Step silicon and fluid of each rack; `mixed_w` [C] collects heat to the CDU return; heat stored [J].

    Plate law: T_silicon = T_in + w (T_out - T_in) + base * q, which is the OCP plate table (FACTS P.7) in a form
    that also holds when the flow stops.
    """
    stored = 0.0
    mixed_w[:] = 0.0
    for r in range(len(rack_w)):
        c = racks.cdu[r]
        w_k = s.cdu_flow_lpm[c] * hyd.cdu_w_lpm_k[c] * racks.flow_share[r]
        inlet, outlet = s.cdu_supply_c[c], s.fluid_c[r]
        moving = min(1.0, 5.0 * s.cdu_flow_lpm[c] / hyd.cdu_flow_lpm[c])
        weight = 1.0 - (1.0 - racks.inlet_weight[r]) * moving
        plate_w = (s.silicon_c[r] - inlet - weight * (outlet - inlet)) / racks.base_k_w[r]
        to_silicon = (rack_w[r] * racks.liquid_share[r] - plate_w) * DT_S
        to_fluid = (plate_w + w_k * (inlet - outlet)) * DT_S
        silicon = s.silicon_c[r] + to_silicon / racks.silicon_j_k[r]
        fluid = outlet + to_fluid / racks.fluid_j_k[r]
        stored += racks.silicon_j_k[r] * (silicon - s.silicon_c[r]) + racks.fluid_j_k[r] * (fluid - outlet)
        s.silicon_c[r], s.fluid_c[r] = silicon, fluid
        mixed_w[c] += w_k * (outlet - s.cdu_return_c[c])
        s.mix_w[racks.loop[r]] += rack_w[r] * (1.0 - racks.liquid_share[r])
    return stored


@njit(cache=True)
def ask_flow(hyd: Hydraulics, s: ThermalState) -> None:
    """Each CDU's valve holds its secondary supply (PI, no wind-up); starts the step's sums over each loop."""
    s.asked_lpm[:] = 0.0
    s.mix_w[:] = 0.0
    for c in range(len(hyd.cdu_loop)):
        error = s.cdu_supply_c[c] - s.cdu_target_c[c]
        integral = s.valve_i[c] + VALVE_KP_PER_K * error * DT_S / VALVE_TI_S
        s.valve_i[c] = min(max(integral, 0.0), 1.0)
        s.valve[c] = min(max(VALVE_KP_PER_K * error + s.valve_i[c], 0.05), 1.0)
        s.asked_lpm[hyd.cdu_loop[c]] += s.valve[c] * hyd.cdu_primary_lpm[c]


@njit(cache=True)
def _pump_wanted(hyd: Hydraulics, s: ThermalState, u: int, powered: Bools) -> bool:
    """A standby pump runs while fewer healthy pumps are left in its loop than belong there."""
    if not hyd.unit_standby[u]:
        return True
    down = 0
    for k in range(len(hyd.unit_kind)):
        same = hyd.unit_kind[k] == PUMP and hyd.unit_loop[k] == hyd.unit_loop[u]
        healthy = s.unit_ok[k] and powered[k]
        if same and not hyd.unit_standby[k] and not healthy:
            down += 1
        if same and hyd.unit_standby[k] and healthy and k < u:
            down -= 1
    return down > 0


@njit(cache=True)
def run_pumps(hyd: Hydraulics, s: ThermalState, powered: Bools) -> None:
    """Pumps follow what the valves ask, up to what they have; affinity law for power."""
    able = np.zeros(len(hyd.loop_set_c))
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] != PUMP:
            continue
        on = s.unit_ok[u] and powered[u] and _pump_wanted(hyd, s, u, powered)
        if on and hyd.unit_standby[u]:
            s.unit_wait_s[u] += DT_S
            on = s.unit_wait_s[u] > STANDBY_DELAY_S
        else:
            s.unit_wait_s[u] = 0.0
        tau = PUMP_UP_S if on else PUMP_DOWN_S
        s.unit_speed[u] += ((1.0 if on else 0.0) - s.unit_speed[u]) * DT_S / tau
        able[hyd.unit_loop[u]] += s.unit_speed[u] * hyd.unit_capacity[u]
    for k in range(len(able)):
        s.loop_flow_lpm[k] = min(s.asked_lpm[k], able[k])
        s.granted[k] = s.loop_flow_lpm[k] / max(s.asked_lpm[k], 1e-9)
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] == PUMP:
            k = hyd.unit_loop[u]
            speed = max(s.loop_flow_lpm[k] / max(able[k], 1e-9), PUMP_LEAST)
            live = s.unit_ok[u] and powered[u]
            s.unit_w[u] = hyd.unit_power_w[u] * s.unit_speed[u] * speed**3 if live else 0.0


@njit(cache=True)
def exchange(hyd: Hydraulics, s: ThermalState, powered: Bools, mixed_w: Floats) -> float:
    """Step the CDUs: pumps, heat exchanger (eps-NTU, hA ~ flow^0.8 on both sides), both halves; heat stored [J]."""
    stored = 0.0
    for c in range(len(hyd.cdu_loop)):
        loop = hyd.cdu_loop[c]
        nominal = hyd.cdu_flow_lpm[c]
        speed = s.cdu_flow_lpm[c] / nominal
        s.cdu_w[c] = hyd.cdu_pump_w[c] * max(speed, CDU_PUMP_LEAST) ** 3 if powered[c] else 0.0
        primary = s.valve[c] * hyd.cdu_primary_lpm[c] * s.granted[loop]
        c_hot = s.cdu_flow_lpm[c] * hyd.cdu_w_lpm_k[c]
        c_cold = primary * hyd.loop_w_lpm_k[loop]
        q = 0.0
        least = min(c_hot, c_cold)
        if least > 1e-6 * nominal * hyd.cdu_w_lpm_k[c]:
            film = speed**-0.8 + (primary / hyd.cdu_primary_lpm[c]) ** -0.8
            eps = effectiveness(hyd.cdu_ua[c] * 2.0 / (film * least), least / max(c_hot, c_cold))
            q = eps * least * (s.cdu_return_c[c] - s.loop_supply_c[loop])
        supply = s.cdu_supply_c[c] + (c_hot * (s.cdu_return_c[c] - s.cdu_supply_c[c]) - q) * DT_S / hyd.cdu_half_j_k[c]
        back = s.cdu_return_c[c] + (mixed_w[c] + s.cdu_w[c]) * DT_S / hyd.cdu_half_j_k[c]
        stored += hyd.cdu_half_j_k[c] * ((supply - s.cdu_supply_c[c]) + (back - s.cdu_return_c[c]))
        s.cdu_supply_c[c], s.cdu_return_c[c], s.cdu_heat_w[c] = supply, back, q
        s.mix_w[loop] += q + c_cold * (s.loop_supply_c[loop] - s.loop_return_c[loop])
        target = s.cdu_target_lpm[c] if powered[c] else 0.0
        tau = CDU_PUMP_UP_S if powered[c] else CDU_PUMP_DOWN_S
        s.cdu_flow_lpm[c] += (target - s.cdu_flow_lpm[c]) * DT_S / tau
    return stored


@njit(cache=True)
def _capability(hyd: Hydraulics, s: ThermalState, u: int, powered: Bools, dry_c: float, wet_c: float) -> float:
    """Greatest heat that a unit can reject now [W]: economisers by return over weather, chillers by dry-bulb."""
    if hyd.unit_kind[u] == PUMP or not (s.unit_ok[u] and powered[u]):
        return 0.0
    loop = hyd.unit_loop[u]
    if hyd.unit_kind[u] == CHILLER:
        return float(hyd.unit_capacity[u]) * max(0.5, 1.0 - CHILLER_DERATE_PER_K * max(0.0, dry_c - DESIGN_DRY_C))
    if hyd.unit_kind[u] == DRY_COOLER:
        air, design = dry_c, DESIGN_DRY_C
    else:
        air, design = wet_c, DESIGN_WET_C
    at_design = max(2.0, float(hyd.loop_set_c[loop] + hyd.loop_rise_k[loop]) - design)
    lift = max(0.0, float(s.loop_return_c[loop]) - air) / at_design
    return float(hyd.unit_capacity[u]) * min(MOST, lift)


@njit(cache=True)
def reject(hyd: Hydraulics, s: ThermalState, powered: Bools, dry_c: float, wet_c: float) -> float:
    """Step the loops: rejection holds the supply at its set-point as far as units and weather allow; stored [J]."""
    free, cold = np.zeros(len(hyd.loop_set_c)), np.zeros(len(hyd.loop_set_c))
    for u in range(len(hyd.unit_kind)):
        able = _capability(hyd, s, u, powered, dry_c, wet_c)
        if hyd.unit_kind[u] == CHILLER:
            cold[hyd.unit_loop[u]] += able
        else:
            free[hyd.unit_loop[u]] += able
    stored = 0.0
    for k in range(len(hyd.loop_set_c)):
        w_k = s.loop_flow_lpm[k] * hyd.loop_w_lpm_k[k]
        wish = max(0.0, w_k * (s.loop_return_c[k] - hyd.loop_set_c[k]))
        s.rejecting_w[k] += (wish - s.rejecting_w[k]) * DT_S / REJECTION_TAU_S
        q = min(s.rejecting_w[k], free[k] + cold[k])
        s.loop_heat_w[k] = q
        half = hyd.loop_half_j_k[k]
        supply = s.loop_supply_c[k] + (w_k * (s.loop_return_c[k] - s.loop_supply_c[k]) - q) * DT_S / half
        back = s.loop_return_c[k] + s.mix_w[k] * DT_S / half
        stored += half * ((supply - s.loop_supply_c[k]) + (back - s.loop_return_c[k]))
        s.loop_supply_c[k], s.loop_return_c[k] = supply, back
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] != PUMP:
            able = _capability(hyd, s, u, powered, dry_c, wet_c)
            k = hyd.unit_loop[u]
            by_free = min(s.loop_heat_w[k], free[k])
            share = by_free / max(free[k], 1e-9)
            if hyd.unit_kind[u] == CHILLER:
                share = (s.loop_heat_w[k] - by_free) / max(cold[k], 1e-9)
            _unit_power(hyd, s, u, able, share, dry_c)
    return stored


@njit(cache=True)
def _unit_power(hyd: Hydraulics, s: ThermalState, u: int, able: float, share: float, dry_c: float) -> None:
    """Fans: cube of speed, heat ~ air^0.8 above free convection; chillers: heat over a COP that falls with lift."""
    s.unit_heat_w[u] = share * able
    s.unit_speed[u] = share if able > 0.0 else 0.0
    if able <= 0.0:
        s.unit_w[u] = 0.0
    elif hyd.unit_kind[u] == CHILLER:
        lift = max(0.4, 1.0 + CHILLER_POWER_PER_K * (dry_c - DESIGN_DRY_C))
        s.unit_w[u] = hyd.unit_power_w[u] * share * able / hyd.unit_capacity[u] * lift
    else:
        air = (max(0.0, share - FREE_CONVECTION) / (1.0 - FREE_CONVECTION)) ** 1.25
        s.unit_w[u] = hyd.unit_power_w[u] * air**3


@njit(cache=True)
def thermal_step(
    racks: Racks, hyd: Hydraulics, s: ThermalState, rack_w: Floats, cdu_on: Bools, unit_on: Bools,
    mixed_w: Floats, dry_c: float, wet_c: float,
) -> Heat:  # fmt: skip
    """One step for the heat of `rack_w` [R]; `cdu_on` [C] and `unit_on` [U] have voltage; `mixed_w` [C] is scratch."""
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
    residual = abs((in_w - out_w) * DT_S - stored) / (max(in_w, 1e3) * DT_S)
    return Heat(in_w, out_w, residual)
