"""Heat from silicon to the coolant: the water's state, plates and rack coolant. CDUs: cdu.py; the rest: facility.py.

Lumps: silicon and fluid of each rack, supply and return half of each CDU circuit and of each loop, with the pipes of
the loop (pipes.py) between its halves. Heat that a rack gives to air goes through its rear door into the same loop's
return, without delay. Pump power becomes heat of the water that it moves. Heat of the electrical rooms is not in the
loops: their cooling is a load of the site.
"""

import math
from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from sim.plant.base import DT_S, KERNEL, Bools
from sim.plant.hydraulics import Hydraulics
from sim.plant.network import Racks

CELLS = 64  # of a pipe


class ThermalState(NamedTuple):
    """Changes in place, step by step. Temperatures in C."""

    silicon_c: Floats  # [R] mean of the rack's GPUs
    coolant_c: Floats  # [R] what its plates see
    skew_w: Floats  # [R] what they carry beyond that, because GPUs and plates differ (gpus.py)
    fluid_c: Floats  # [R] coolant leaving the rack
    cdu_supply_c: Floats  # [C] to the racks
    cdu_return_c: Floats
    cdu_flow_lpm: Floats
    cdu_target_lpm: Floats
    cdu_target_c: Floats
    cdu_heat_w: Floats  # over the heat exchanger
    cdu_w: Floats  # pump power
    valve: Floats  # [C] stroke, 0..1
    valve_i: Floats  # integral part of its controller
    valve_share: Floats  # of the full flow that it asks
    pump_i: Floats  # [C] the same of a pump that holds a pressure
    loop_supply_c: Floats  # [L] leaving heat rejection
    loop_return_c: Floats  # leaving CDUs and rear doors
    arriving_c: Floats  # [L] at the CDUs, out of the supply pipe
    returning_c: Floats  # [L] at heat rejection, out of the return pipe
    pipe_c: Floats  # [L, 2, CELLS + 1] water in the supply and the return pipe
    pipe_l: Floats  # [L, 2, 1] in the cell that fills
    pipe_at: Ints  # [L, 2, 1] that cell
    loop_flow_lpm: Floats
    loop_heat_w: Floats  # rejected now
    rejecting_w: Floats  # [L] controller output, before weather has its say
    cdu_ok: Bools  # [C] not out of service
    leaks: Bools  # [C] coolant of its circuit is found where none should be
    unit_ok: Bools  # [U] not tripped
    unit_on: Bools  # has voltage
    unit_wait_s: Floats  # a standby pump's start delay so far
    unit_speed: Floats  # [U] 0..1 of what it does when on
    unit_w: Floats  # electrical
    unit_heat_w: Floats  # rejected
    unit_full_w: Floats  # what it could reject at full speed, whatever it was built for
    unit_able_w: Floats  # greatest heat it could reject now
    air_c: Floats  # [2] dry-bulb and wet-bulb outside
    asked_lpm: Floats  # [L] scratch: what the valves ask
    granted: Floats  # [L] scratch: share of it that the pumps deliver
    at_lpm: Floats  # [C] scratch: flow for which the next two hold
    warm_film: Floats  # [C] scratch: film resistance of the racks' side over that at nominal flow
    at_stroke: Floats  # [C] scratch: stroke for which valve_share holds
    at_open: Floats  # [C] scratch: share of the facility flow for which the next holds
    eps: Floats  # [C] scratch: effectiveness of the exchanger
    kept_lpm: Floats  # [C] scratch: flow for which the next holds
    fluid_keep: Floats  # [C] scratch: of the racks' coolant that has not left after a step
    pump_share: Floats  # [C] scratch: of the pump's power at nominal flow
    mix_w: Floats  # [L] scratch: heat carried to the return by CDUs and rear doors


def start_thermal(racks: Racks, hyd: Hydraulics) -> ThermalState:
    """Near the working point at set-points, pumps on, valves at 0.8 of their stroke, about half of the flow."""
    c, loops, u = len(hyd.cdu_loop), len(hyd.loop_set_c), len(hyd.unit_kind)
    supply = hyd.cdu_set_c.copy()
    return ThermalState(
        silicon_c=supply[racks.cdu] + 30.0,
        coolant_c=supply[racks.cdu] + 2.0,
        skew_w=np.zeros(len(racks.cdu)),
        fluid_c=supply[racks.cdu] + 6.0,
        cdu_supply_c=supply,
        cdu_return_c=supply + 6.0,
        cdu_flow_lpm=hyd.cdu_flow_lpm.copy(),
        cdu_target_lpm=hyd.cdu_flow_lpm.copy(),
        cdu_target_c=hyd.cdu_set_c.copy(),
        cdu_heat_w=np.zeros(c),
        cdu_w=np.zeros(c),
        valve=np.full(c, 0.8),
        valve_i=np.full(c, 0.8),
        valve_share=np.ones(c),
        pump_i=np.ones(c),
        loop_supply_c=hyd.loop_set_c.copy(),
        loop_return_c=hyd.loop_set_c + 6.0,
        arriving_c=hyd.loop_set_c.copy(),
        returning_c=hyd.loop_set_c + 6.0,
        pipe_c=np.stack([hyd.loop_set_c, hyd.loop_set_c + 6.0], axis=1)[:, :, None] * np.ones(CELLS + 1),
        pipe_l=np.zeros((loops, 2, 1)),
        pipe_at=np.zeros((loops, 2, 1), dtype=np.int64),
        loop_flow_lpm=0.8 * hyd.loop_flow_lpm,
        loop_heat_w=np.zeros(loops),
        rejecting_w=0.8 * hyd.loop_flow_lpm * hyd.loop_w_lpm_k * 6.0,
        cdu_ok=np.ones(c, dtype=bool),
        leaks=np.zeros(c, dtype=bool),
        unit_ok=np.ones(u, dtype=bool),
        unit_on=np.ones(u, dtype=bool),
        unit_wait_s=np.zeros(u),
        unit_speed=np.where(hyd.unit_standby, 0.0, 1.0),
        unit_w=np.zeros(u),
        unit_heat_w=np.zeros(u),
        unit_full_w=np.zeros(u),
        unit_able_w=np.zeros(u),
        air_c=np.full(2, np.nan),
        asked_lpm=np.zeros(loops),
        granted=np.zeros(loops),
        at_lpm=np.full(c, np.nan),
        warm_film=np.ones(c),
        at_stroke=np.full(c, np.inf),
        at_open=np.full(c, np.inf),
        eps=np.ones(c),
        kept_lpm=np.full(c, np.nan),
        fluid_keep=np.ones(c),
        pump_share=np.ones(c),
        mix_w=np.zeros(loops),
    )


@KERNEL
def cool_racks(racks: Racks, hyd: Hydraulics, s: ThermalState, rack_w: Floats, mixed_w: Floats) -> float:
    """Step silicon and fluid of each rack; `mixed_w` [C] collects heat to the CDU return; heat stored [J].

    Plate law: T_silicon = T_in + w (T_out - T_in) + base * q, which is the OCP plate table (FACTS P.7) in a form
    that also holds when the flow stops. Each lump takes its exact exponential over the step, so that its time
    constant may be as short as it likes; heat flows are the means over the step.
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
        liquid_w = rack_w[r] * racks.liquid_share[r]
        rest_c = s.coolant_c[r] + racks.base_k_w[r] * (liquid_w - s.skew_w[r])
        silicon = rest_c + (s.silicon_c[r] - rest_c) * racks.silicon_keep[r]
        kept_j = racks.silicon_j_k[r] * (silicon - s.silicon_c[r])
        plate_w = liquid_w - kept_j / DT_S
        renewed = w_k * DT_S / racks.fluid_j_k[r]  # share of the rack's coolant that leaves in a step
        if renewed > 1e-6:
            rest_c = inlet + plate_w / w_k
            if s.cdu_flow_lpm[c] != s.kept_lpm[c]:  # every rack of a CDU renews its coolant alike
                s.kept_lpm[c], s.fluid_keep[c] = s.cdu_flow_lpm[c], math.exp(-renewed)
            fluid = rest_c + (outlet - rest_c) * s.fluid_keep[c]
        else:
            fluid = outlet + plate_w * DT_S / racks.fluid_j_k[r]
        kept_w = racks.fluid_j_k[r] * (fluid - outlet) / DT_S
        stored += kept_j + kept_w * DT_S
        s.silicon_c[r], s.fluid_c[r] = silicon, fluid
        mixed_w[c] += w_k * (inlet - s.cdu_return_c[c]) + plate_w - kept_w
        s.mix_w[racks.loop[r]] += rack_w[r] * (1.0 - racks.liquid_share[r])
    return stored
