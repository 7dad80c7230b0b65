"""Where the reference sites take their power from: feeds, substations with their tie, battery and generator plants."""

from drivers.site.model import Device, Generator, Node, Storage, Switch
from drivers.site.reference_parts import STORAGE_PORT, Plan, Tables, add_node, address

GENERATOR_S = 15.0  # a transfer switch to a generator that runs waits for the tie first


def add_feeds(t: Tables, plan: Plan) -> None:
    """Two utility feeds, each with its substation and a battery plant, and the tie between the substations."""
    aux = ("h1b1u1", "h1b1u2")
    for i in (1, 2):
        feed = Node(id=f"feed{i}", kind="utility_feed", rating=plan.feed_va, rating_unit="VA", volt_v=plan.feed_v)
        add_node(t, plan, feed, aux)
        sub = Node(
            id=f"sub{i}",
            kind="substation",
            parent=f"feed{i}",
            rating=plan.feed_va,
            rating_unit="VA",
            volt_v=plan.substation_v,
            efficiency=0.995,
            trip_curve="transformer_c57_91",
        )
        add_node(t, plan, sub, aux)
        power_w, energy_wh = plan.storage
        t.storage.append(Storage(id=f"bess{i}", node=f"sub{i}", power_w=power_w, energy_wh=energy_wh, response_s=0.25))
        t.devices.append(
            Device(
                id=f"bess{i}",
                profile="sunspec_battery",
                protocol="modbus_tcp",
                host=address(40 + plan.net, i - 1),
                port=STORAGE_PORT,
                measures=f"bess{i}",
            )
        )
    t.switches.append(Switch(id="tie-sub", kind="tie", a="sub1", b="sub2", normal="open", transfer_s=10))


def add_generators(t: Tables, plan: Plan) -> None:
    """A generator plant on each substation's bus, which comes in when the tie has not."""
    if plan.generators is None:
        return
    rating, start_s, ramp_w_per_s = plan.generators
    for i in (1, 2):
        volt = {"rating": rating, "rating_unit": "VA", "volt_v": plan.substation_v}
        node = {"id": f"gen{i}", "kind": "generator", "trip_curve": "generator_iso8528"} | volt
        add_node(t, plan, Node.model_validate(node), ("h1b1u1", "h1b1u2"))
        t.generators.append(Generator(id=f"gen{i}", start_s=start_s, ramp_w_per_s=ramp_w_per_s))
        t.switches.append(
            Switch(id=f"gts{i}", kind="transfer", a=f"gen{i}", b=f"sub{i}", normal="open", transfer_s=GENERATOR_S)
        )
