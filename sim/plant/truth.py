"""What really is, for scores, tests and screens: nothing of it passes an instrument."""

from dataclasses import dataclass

from drivers.points import Floats


@dataclass(frozen=True)
class Truth:
    """What really is, at the end of a step; powers are means over the step."""

    t_s: float
    site_power_w: float  # at the utility meters
    it_power_w: float  # racks
    supply_loss_w: float  # of that, lost in the racks' power supplies
    cooling_w: float  # facility pumps, heat rejection, CDU pumps fed apart from racks
    losses_w: float
    load_w: float  # uncapped loads
    battery_w: float  # out of UPS batteries
    generator_w: float  # out of generators
    storage_w: float  # + is discharge
    demand_w: float  # of all racks, uncapped, this step
    handed_out_w: float  # sum of min(cap, demand at the job's plateau) over racks, plus cooling, losses and loads
    rack_w: Floats  # [R]
    plateau_w: Floats  # [R] demand at the job's plateau
    cap_w: Floats  # [R] in force at the agents
    node_w: Floats  # [N] at each node's output
    feed_w: dict[str, float]
    worst_node: str  # nearest to or furthest beyond its derated rating
    worst_load: float  # its load as a share of that, 1 is full
    trips: int  # all time
    tripped: tuple[str, ...]  # nodes that their own protection has opened and nobody has closed
    trip_state_max: float  # furthest on its way to a trip, of the nodes in service: 0 cold, 1 open
    worst_trip_node: str
    least_trip_s: float  # shortest time that any of them stays closed at the load it has now
    throttled: int  # racks of which a GPU throttles by heat, now
    shut_down: int  # racks of which a GPU has shut itself down by heat, all time
    gpus_throttled: int  # now
    gpus_shut_down: int  # all time
    hottest_gpu_c: float
    shed: int  # racks on a rung of the shed ladder or starting again after one, now
    hottest_loop: str
    hottest_loop_c: float  # return
    loop_supply_c: Floats  # [L]
    cdu_supply_c: Floats  # [C]
    dry_bulb_c: float
    work: float  # rack seconds at full speed, all time, less what crashes have undone
    undone: float  # by crashes, all time
    waiting: float  # requests that wait, in rack seconds
