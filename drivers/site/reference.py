"""The two reference sites, `colossus` and `hall`, as functions of nothing: same tables on every machine."""

from collections.abc import Callable, Iterator

from drivers.site.model import Actuator, Control, Job, Loop, Mqtt, Site, Tenant
from drivers.site.reference_feeds import add_feeds, add_generators
from drivers.site.reference_parts import (
    GB200,
    HOPPER,
    PAIRS,
    JobPlan,
    Model,
    Plan,
    Tables,
    add_block,
    spread,
)
from drivers.site.reference_water import add_mechanical

COMMON = (
    "Hopper node (8 x H100/H200 SXM): nameplate 10.2 kW, GPU part 7650 W, CPUs 1530 W, memory 1020 W, lowest node"
    " power 5600 W (NVIDIA DPS policy Node-High H100; FACTS C.1). 8 nodes a rack: 81.6 kW, floor 44.8 kW.",
    "GB200 NVL72: 132 kW nameplate (NVIDIA BCM documents; FACTS C.1); 24 kW out of reach of GPU caps (36 Grace at"
    " 420 W and switch trays) and a floor of 0.4 of nameplate are assumptions between the DPS tray limits 1000-6667 W.",
    "Idle: 2.5 kW a Hopper node, 1 kW a GB200 tray (FACTS D.3, C.1).",
    "Safe caps are 75 % of nameplate, near the training average of 76 % (FACTS D.3).",
    "When every lease ends, caps fall to the safe caps within 90 s: from the envelope, and with racks that draw their"
    " pace between 0.4 and 1 of that time, 77 s keep the fall inside the site's ramp for reductions, as a sudden step"
    " is itself a grid event. The site stays inside its limits meanwhile: the caps in force fit them.",
    "Liquid share 0.75 (Hopper) and 0.85 (GB200) through the CDUs (FACTS C.3); rear doors bring the rest into the same"
    " loop (FACTS D.2), so a loop takes all heat of its racks; hall fans are fixed loads.",
    "Pumps of in-rack CDUs are inside the rack's power; pumps of row CDUs are load of their own on their feeds.",
    "A rack PDU carries its whole rack when the other cord is lost, at 80 % of its standard-rated breaker (UL 489).",
    "Efficiencies near rating: substation 0.995, transformer 0.99, double-conversion UPS 0.973, busway 0.997.",
    "Tenants, their guarantees (a little above the floors of their racks) and maxima are assumptions.",
    "Trip curves are named by class, as real settings were not found; a UPS may be overloaded for its maker's"
    " shortest times after a loss, and on purpose where control.planned_overload says so.",
    "Gateways answer one request in 12 ms; 35 rack PDUs take 0.42 s of each second.",
    "In band a cap acts after 0.2 s and settles with 0.3 s; through the BMC after 5 s (power brake; POLCA,"
    " arXiv 2308.12908, gives 5 s for the brake and up to 40 s for the BMC).",
)
DECAY_S = 90  # see COMMON
MQTT_PORT = 18830  # not 1883, where a machine's own broker would be
ACTUATORS = {
    "inband": Actuator(latency_s=0.2, settle_s=0.3, resolution_w=10, register_max_w=655350),
    "bmc_fast": Actuator(latency_s=5, settle_s=1, resolution_w=10, register_max_w=655350),
}


def trim_last(t: Tables, model: Model, gpus: int) -> None:
    """The last rack of a model holds what is left of its GPUs, and powers in proportion."""
    of_model = [i for i, r in enumerate(t.racks) if r.gpu_model == model.gpu_model]
    left = gpus - model.gpus * (len(of_model) - 1)
    part = left / model.gpus
    names = ("other_w", "idle_w", "floor_w", "max_w", "safe_cap_w")
    scaled = {name: round(getattr(model, name) * part) for name in names}
    t.racks[of_model[-1]] = t.racks[of_model[-1]].model_copy(update={"gpus": left, **scaled})


def place_jobs(t: Tables, plan: Plan) -> None:
    """Give each job its racks: pod by pod, going round the halls, so that every job stands in several halls."""

    def turn(i: int) -> tuple[int, int]:
        rack = t.racks[i]
        hall, block = (int(x) for x in rack.lease_group.split("p")[0][1:].split("b"))
        return 2 * block + int(rack.lease_group[-1]), hall

    for model in (HOPPER, GB200):
        order = sorted((i for i, r in enumerate(t.racks) if r.gpu_model == model.gpu_model), key=turn)
        at: Iterator[int] = iter(order)
        for job in (j for j in plan.jobs if j.model is model):
            for _ in range(job.racks):
                i = next(at)
                t.racks[i] = t.racks[i].model_copy(update={"job": job.id, "priority": job.priority})
        if next(at, None) is not None:
            raise ValueError(f"jobs leave {model.gpu_model} racks over")
    t.jobs = [Job.model_validate({"id": j.id, "kind": j.kind, "tenant": j.tenant}) for j in plan.jobs]


def build(name: str, title: str, plan: Plan, control: Control, assumptions: tuple[str, ...]) -> Site:
    """All tables of a plan."""
    t = Tables()
    add_feeds(t, plan)
    per_block = len(PAIRS)
    for hall in range(plan.halls):
        for block in range(plan.blocks):
            first = (hall * plan.blocks + block) * per_block
            add_block(t, plan, hall + 1, block + 1, plan.rows[first : first + per_block])
        add_mechanical(t, plan, hall + 1)
    add_generators(t, plan)
    trim_last(t, HOPPER, plan.hopper_gpus)
    trim_last(t, GB200, plan.gb200_gpus)
    place_jobs(t, plan)
    return Site(
        name=name,
        title=title,
        assumptions=assumptions + COMMON,
        control=control,
        mqtt=Mqtt(port=MQTT_PORT, fed_from=control.fed_from),
        actuators=ACTUATORS,
        nodes=tuple(t.nodes),
        racks=tuple(t.racks),
        jobs=tuple(t.jobs),
        tenants=plan.tenants,
        cdus=tuple(t.cdus),
        loops=tuple(t.loops),
        cooling=tuple(t.cooling),
        loads=tuple(t.loads),
        storage=tuple(t.storage),
        generators=tuple(t.generators),
        switches=tuple(t.switches),
        gateways=tuple(t.gateways),
        devices=tuple(t.devices),
    )


def colossus() -> Site:
    """300 MW, 220,000 GPUs, 3,386 racks in 8 halls of five blocks; nameplate with cooling about 327 MW."""
    plan = Plan(
        halls=8,
        blocks=5,
        rows=tuple(zip(spread(2969, 240), spread(417, 240), strict=True)),
        hopper_gpus=190_000,
        gb200_gpus=30_000,
        jobs=(
            JobPlan("frontier-50k", "training", "foundation", 1, HOPPER, 782),
            JobPlan("chat-serving", "inference", "products", 0, HOPPER, 500),
            JobPlan("vision-25k", "training", "foundation", 1, HOPPER, 391),
            JobPlan("api-serving", "inference", "cloud", 0, HOPPER, 250),
            JobPlan("code-16k", "training", "products", 2, HOPPER, 256),
            JobPlan("speech-12k", "training", "products", 2, HOPPER, 192),
            JobPlan("science-8k", "training", "university", 2, HOPPER, 128),
            JobPlan("batch-serving", "inference", "cloud", 3, HOPPER, 150),
            JobPlan("ablation-8k", "training", "research", 3, HOPPER, 128),
            JobPlan("ablation-4k-a", "training", "research", 3, HOPPER, 64),
            JobPlan("ablation-4k-b", "training", "research", 3, HOPPER, 64),
            JobPlan("ablation-4k-c", "training", "research", 3, HOPPER, 64),
            JobPlan("moe-15k", "training", "foundation", 1, GB200, 209),
            JobPlan("reasoning-serving", "inference", "products", 0, GB200, 152),
            JobPlan("video-4k", "training", "research", 2, GB200, 56),
        ),
        tenants=(
            Tenant(id="foundation", guarantee_w=80e6),
            Tenant(id="products", guarantee_w=60e6),
            Tenant(id="cloud", guarantee_w=20e6, max_w=32e6),
            Tenant(id="university", guarantee_w=6.5e6),
            Tenant(id="research", guarantee_w=18e6, max_w=30e6),
        ),
        feed_v=161_000,
        substation_v=13_800,
        feed_va=160e6,
        transformer_va=3.15e6,
        ups_va=2.75e6,
        mech_va=2.5e6,
        switchboard_a=4000,
        network_w=15_000,
        air_w=75_000,
        loop=Loop(id="-", supply_c=30, return_max_c=48, flow_lpm=22_500, volume_l=50_000, pipe_l=11_250),
        units=(
            ("pump", 3, 1, 7500, 42_000),
            ("tower", 4, 0, 4.7e6, 62_000),
            ("chiller", 2, 0, 1.3e6, 190_000),
        ),
        cdu_supply_c=36,
        storage=(75e6, 400e6),
        net=0,
        slow_pods=("h8b5p2",),
        generators=(130e6, 90, 2e6),
    )
    control = Control(
        envelope_w=300e6,
        ramp_up_w_per_s=500_000,
        ramp_down_w_per_s=1_000_000,
        lease_decay_s=DECAY_S,
        fed_from=("h1b1u1", "h2b1u2"),
    )
    assumptions = (
        "Colossus 1, Memphis: 220,000 GPUs, 300 MW from TVA in two steps of 150 MW (FACTS 0.2, 0.3, D.1).",
        "190,000 Hopper GPUs in 2,969 racks and 30,000 GB200 in 417 racks: 3,386 racks (FACTS D.2, D.3).",
        "Feeds and substation transformers of 160 MVA: 150 MW at power factor 0.95 with 1 % for unequal halves.",
        "Electrical layout assumed: 40 blocks of four 2.75 MVA UPS, of which three carry the block.",
        "Storage: two plants of 75 MW / 400 MWh (Megapacks, about 150 MW and 811 MWh nameplate; FACTS D.1).",
        "Generators: the 15 gas turbines of 247 MW together that have a permit (FACTS D.1), half on each substation;"
        " they raise their load by 15 MW/min each (10-20; FACTS G.1). That they start within 90 s, inside what UPS"
        " carry, and take 30 % of their rating in one step is assumed.",
        "Water towers and trim chillers (FACTS D.1: recycled-water plant; number and type not found). In summer design"
        " the plant takes about 4 % of the site's heat: pumps 0.7 %, fans 1.3 % of its heat, trim chillers COP 7.",
        "A hall's water travels 150 m each way at 5 m/s (the speed of FACTS P.7): 30 s.",
        "Raises 30 MW/min, the upper end of what grid operators set (NERC 2026-03: 10-30 MW/min; FACTS G.1); reductions"
        " that no limit demands 60 MW/min.",
    )
    return build("colossus", "Colossus 1 as modelled: 300 MW, 220,000 GPUs", plan, control, assumptions)


def hall() -> Site:
    """One hall of 64 racks on one block: the structure of colossus at 2 % of its size, for laptops and tests."""
    plan = Plan(
        halls=1,
        blocks=1,
        rows=((12, 0), (11, 0), (11, 0), (11, 0), (11, 0), (0, 8)),
        hopper_gpus=56 * 64,
        gb200_gpus=8 * 72,
        jobs=(
            JobPlan("train-1k5", "training", "foundation", 1, HOPPER, 24),
            JobPlan("serving", "inference", "products", 0, HOPPER, 16),
            JobPlan("train-1k", "training", "research", 2, HOPPER, 16),
            JobPlan("moe", "training", "foundation", 1, GB200, 5),
            JobPlan("reasoning-serving", "inference", "products", 0, GB200, 3),
        ),
        tenants=(
            Tenant(id="foundation", guarantee_w=1.7e6),
            Tenant(id="products", guarantee_w=1.2e6),
            Tenant(id="research", guarantee_w=0.8e6, max_w=1.25e6),
        ),
        feed_v=13_800,
        substation_v=13_800,
        feed_va=4.4e6,
        transformer_va=2.5e6,
        ups_va=2.0e6,
        mech_va=0.5e6,
        switchboard_a=800,
        network_w=11_000,
        air_w=15_000,
        loop=Loop(id="-", supply_c=36, return_max_c=52, flow_lpm=3450, volume_l=7500, pipe_l=1150),
        units=(
            ("pump", 3, 1, 1150, 6500),
            ("dry_cooler", 3, 0, 950_000, 14_000),
            ("chiller", 2, 0, 200_000, 30_000),
        ),
        cdu_supply_c=40,
        storage=(1.5e6, 8e6),
        net=100,
        generators=(2.6e6, 40, 62_500),
    )
    control = Control(
        envelope_w=5.7e6,
        ramp_up_w_per_s=9500,
        ramp_down_w_per_s=19_000,
        lease_decay_s=DECAY_S,
        fed_from=("h1b1u1", "h1b1u2"),
    )
    assumptions = (
        "One hall of 56 Hopper and 8 GB200 racks, scaled from colossus (its assumptions hold); storage and ramps by the"
        " ratio of the envelopes; the envelope is about 9 % below nameplate with cooling. A UPS is a quarter of the"
        " hall: each feed carries its half and what the loss of a UPS on the other feed moves onto it.",
        "Generators: one gas engine of 2.5 MW on each substation, as stood at Colossus first (FACTS D.1); full load"
        " 40 s after a start of 40 s, 30 % of it in one step (assumed).",
        "Dry coolers and trim chillers on warm water (36 C) instead of towers: fans 1.5 % of the heat, COP 6.7. Its"
        " water travels 100 m each way at 5 m/s (FACTS P.7): 20 s.",
    )
    return build("hall", "One hall of 64 racks, 5.7 MW", plan, control, assumptions)


SITES: dict[str, Callable[[], Site]] = {"colossus": colossus, "hall": hall}
