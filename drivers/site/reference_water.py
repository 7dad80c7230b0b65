"""The water side of the reference sites: mechanical switchboards, loops with their units, and BMS points."""

from drivers.site.model import CoolingUnit, Device, Load, Node, Switch
from drivers.site.reference_parts import Plan, Tables, add_node


def add_mechanical(t: Tables, plan: Plan, hall: int) -> None:
    """A hall's two mechanical switchboards with their transformers and tie, and its two water loops."""
    hall_id, aux = f"hall{hall}", (f"h{hall}b1u1", f"h{hall}b1u2")
    for side, sub in (("a", 1), ("b", 2)):
        transformer = Node(
            id=f"h{hall}mt{side}",
            kind="transformer",
            parent=f"sub{sub}",
            hall=hall_id,
            rating=plan.mech_va,
            rating_unit="VA",
            volt_v=480,
            efficiency=0.99,
            trip_curve="transformer_c57_91",
        )
        add_node(t, plan, transformer, aux)
        board = Node(
            id=f"h{hall}ms{side}",
            kind="switchboard",
            parent=f"h{hall}mt{side}",
            hall=hall_id,
            rating=plan.switchboard_a,
            rating_unit="A",
            volt_v=480,
            derating=0.8,
            efficiency=0.999,
            trip_curve="ul489_standard",
        )
        add_node(t, plan, board, aux)
        t.loads.append(Load(id=f"h{hall}air{side}", node=f"h{hall}ms{side}", power_w=plan.air_w))
    t.switches.append(
        Switch(
            id=f"h{hall}tie",
            kind="tie",
            a=f"h{hall}msa",
            b=f"h{hall}msb",
            normal="open",
            transfer_s=5,
        )
    )
    for number in (1, 2):
        add_loop(t, plan, hall, number)


def add_loop(t: Tables, plan: Plan, hall: int, number: int) -> None:
    """A facility-water loop with its units, alternating between the two switchboards, and its BMS points."""
    loop_id = f"h{hall}loop{number}"
    t.loops.append(plan.loop.model_copy(update={"id": loop_id, "hall": f"hall{hall}"}))
    path = f"hall{hall}/loop{number}"
    t.devices.append(Device(id=loop_id, profile="dsx_loop", protocol="dsx", topic=path, measures=loop_id))
    for kind, duty, standby, capacity, power_w in plan.units:
        short = kind.replace("_", "")
        for n in range(1, duty + standby + 1):
            unit_id = f"{loop_id}-{short}{n}"
            t.cooling.append(
                CoolingUnit.model_validate(
                    {
                        "id": unit_id,
                        "kind": kind,
                        "loop": loop_id,
                        "capacity": capacity,
                        "power_w": power_w,
                        "standby": n > duty,
                        "fed_from": f"h{hall}ms{'ab'[(n + number) % 2]}",
                    }
                )
            )
            t.devices.append(
                Device(
                    id=unit_id,
                    profile=f"dsx_{short}",
                    protocol="dsx",
                    topic=f"{path}/{short}{n}",
                    measures=unit_id,
                )
            )
