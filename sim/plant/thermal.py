"""Heat from silicon to the facility water: plates, rack coolant, CDUs. Pumps and heat rejection: facility.py.

Lumps: silicon and fluid of each rack, supply and return half of each CDU circuit and of each loop. Heat that a rack
gives to air goes through its rear door into the same loop's return, without delay. Pump power becomes heat of the
water that it moves. Heat of the electrical rooms is not in the loops: their cooling is a load of the site.
"""

import math
from typing import NamedTuple

import numpy as np

from drivers.points import Floats
from sim.plant.base import DT_S, INSIDE, KERNEL, Bools
from sim.plant.hydraulics import Hydraulics
from sim.plant.network import Racks

VALVE_KP_PER_K, VALVE_TI_S = 0.1, 40.0  # FACTS P.7 gives k=1 over 10 K; Ti shortened, our lumps are smaller
CDU_PUMP_UP_S, CDU_PUMP_DOWN_S = 5.0, 1.5
FILM_STEP = 1e-4  # of the flow; UA is off by less, and a power law for each CDU and step is half of a step's time
CDU_PUMP_LEAST = 0.05  # of the speed at nominal flow


class ThermalState(NamedTuple):
    """Changes in place, step by step. Temperatures in C."""

    silicon_c: Floats  # [R] mean of the rack's GPUs
    coolant_c: Floats  # [R] what its plates see
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
    film: Floats  # [C, 2] resistance of the secondary and primary side over nominal
    film_at: Floats  # [C, 2] share of nominal flow that it holds for
    loop_supply_c: Floats  # [L]
    loop_return_c: Floats
    loop_flow_lpm: Floats
    loop_heat_w: Floats  # rejected now
    rejecting_w: Floats  # [L] controller output, before weather has its say
    cdu_ok: Bools  # [C] not out of service
    unit_ok: Bools  # [U] not tripped
    unit_on: Bools  # has voltage
    unit_wait_s: Floats  # a standby pump's start delay so far
    unit_speed: Floats  # [U] 0..1 of what it does when on
    unit_w: Floats  # electrical
    unit_heat_w: Floats  # rejected
    unit_able_w: Floats  # greatest heat it could reject now
    air_c: Floats  # [2] dry-bulb and wet-bulb outside
    asked_lpm: Floats  # [L] scratch: what the valves ask
    granted: Floats  # [L] scratch: share of it that the pumps deliver
    mix_w: Floats  # [L] scratch: heat carried to the return by CDUs and rear doors


def start_thermal(racks: Racks, hyd: Hydraulics) -> ThermalState:
    """Near the working point at set-points, pumps on, valves half open."""
    c, loops, u = len(hyd.cdu_loop), len(hyd.loop_set_c), len(hyd.unit_kind)
    supply = hyd.cdu_set_c.copy()
    return ThermalState(
        silicon_c=supply[racks.cdu] + 30.0,
        coolant_c=supply[racks.cdu] + 2.0,
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
        film=np.ones((c, 2)),
        film_at=np.ones((c, 2)),
        loop_supply_c=hyd.loop_set_c.copy(),
        loop_return_c=hyd.loop_set_c + 6.0,
        loop_flow_lpm=0.8 * hyd.loop_flow_lpm,
        loop_heat_w=np.zeros(loops),
        rejecting_w=0.8 * hyd.loop_flow_lpm * hyd.loop_w_lpm_k * 6.0,
        cdu_ok=np.ones(c, dtype=bool),
        unit_ok=np.ones(u, dtype=bool),
        unit_on=np.ones(u, dtype=bool),
        unit_wait_s=np.zeros(u),
        unit_speed=np.where(hyd.unit_standby, 0.0, 1.0),
        unit_w=np.zeros(u),
        unit_heat_w=np.zeros(u),
        unit_able_w=np.zeros(u),
        air_c=np.full(2, np.nan),
        asked_lpm=np.zeros(loops),
        granted=np.zeros(loops),
        mix_w=np.zeros(loops),
    )


@KERNEL
def effectiveness(ntu: float, ratio: float) -> float:
    """Counter-flow heat exchanger: share of the greatest possible heat, from NTU and C_min / C_max (Kays, London)."""
    if ratio > 0.9999:
        return ntu / (1.0 + ntu)
    e = math.exp(-ntu * (1.0 - ratio))
    return (1.0 - e) / (1.0 - ratio * e)


@INSIDE
def _film(s: ThermalState, c: int, side: int, flow: float) -> float:
    """Resistance of one side of an exchanger at a share of its nominal flow; followed in steps of FILM_STEP."""
    if abs(flow - s.film_at[c, side]) > FILM_STEP * flow:
        s.film_at[c, side], s.film[c, side] = flow, flow**-0.8
    return float(s.film[c, side])


@KERNEL
def cool_racks(
    racks: Racks, hyd: Hydraulics, s: ThermalState, rack_w: Floats, skew_w: Floats, mixed_w: Floats
) -> float:
    """Step silicon and fluid of each rack; `mixed_w` [C] collects heat to the CDU return; heat stored [J].

    `skew_w` [R] is what the plates carry beyond that because GPUs and plates differ (gpus.py).

    Plate law: T_silicon = T_in + w (T_out - T_in) + base * q, which is the OCP plate table (FACTS P.7) in a form
    that also holds when the flow stops.
    """
    stored = 0.0
    for c in range(len(mixed_w)):
        mixed_w[c] = 0.0
    for r in range(len(rack_w)):
        c = racks.cdu[r]
        w_k = s.cdu_flow_lpm[c] * hyd.cdu_w_lpm_k[c] * racks.flow_share[r]
        inlet, outlet = s.cdu_supply_c[c], s.fluid_c[r]
        moving = min(1.0, 5.0 * s.cdu_flow_lpm[c] / hyd.cdu_flow_lpm[c])
        weight = 1.0 - (1.0 - racks.inlet_weight[r]) * moving
        s.coolant_c[r] = inlet + weight * (outlet - inlet)
        plate_w = (s.silicon_c[r] - s.coolant_c[r]) / racks.base_k_w[r] + skew_w[r]
        to_silicon = (rack_w[r] * racks.liquid_share[r] - plate_w) * DT_S
        to_fluid = (plate_w + w_k * (inlet - outlet)) * DT_S
        silicon = s.silicon_c[r] + to_silicon / racks.silicon_j_k[r]
        fluid = outlet + to_fluid / racks.fluid_j_k[r]
        stored += racks.silicon_j_k[r] * (silicon - s.silicon_c[r]) + racks.fluid_j_k[r] * (fluid - outlet)
        s.silicon_c[r], s.fluid_c[r] = silicon, fluid
        mixed_w[c] += w_k * (outlet - s.cdu_return_c[c])
        s.mix_w[racks.loop[r]] += rack_w[r] * (1.0 - racks.liquid_share[r])
    return stored


@KERNEL
def ask_flow(hyd: Hydraulics, s: ThermalState) -> None:
    """Each CDU's valve holds its secondary supply (PI, no wind-up); starts the step's sums over each loop."""
    for k in range(len(s.mix_w)):
        s.asked_lpm[k], s.mix_w[k] = 0.0, 0.0
    for c in range(len(hyd.cdu_loop)):
        error = s.cdu_supply_c[c] - s.cdu_target_c[c]
        integral = s.valve_i[c] + VALVE_KP_PER_K * error * DT_S / VALVE_TI_S
        s.valve_i[c] = min(max(integral, 0.0), 1.0)
        s.valve[c] = min(max(VALVE_KP_PER_K * error + s.valve_i[c], 0.05), 1.0)
        s.asked_lpm[hyd.cdu_loop[c]] += s.valve[c] * hyd.cdu_primary_lpm[c]


@KERNEL
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
            film = _film(s, c, 0, speed) + _film(s, c, 1, primary / hyd.cdu_primary_lpm[c])
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
