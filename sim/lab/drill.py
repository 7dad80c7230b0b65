"""`headroom drill`: elements are lost one by one in the plant at full demand, and what follows is held against
the controller's own verdict.

Plant and controller are warmed up once in lock-step; each loss happens in a copy of that moment.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from controller.frames import Floats, Frames, Shed
from controller.verdict import Verdict, contingencies
from drivers.site.model import Site
from sim.lab.branch import Answer, branches
from sim.lab.lockstep import LockStep
from sim.lab.losses import Element, disobey, sample
from sim.lab.record import Settling, Worked
from sim.lab.tally import summary, violations
from sim.plant.plant import Plant
from sim.scenarios import load_scenario

FAST_S, SETTLE_S, BEFORE_S = 60, 60, 20  # the window in which demand is seen is 60 s
LEAST_S, QUIET_S = 20.0, 8.0  # a run ends early when nothing has moved for so long
SLOW = ("utility_feed", "substation", "switchboard", "pump", "chiller", "tower", "dry_cooler")  # ties and water
SLOW_S = 40.0
SAID = 8  # sentences kept of what was shed and why
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to drill. `disobedient` is the share of racks that ignore their caps from the loss on."""

    losses: int = 200
    kinds: tuple[str, ...] = ()
    disobedient: float = 0.05
    seconds: float = 150.0
    seed: int = 1
    jobs: int = 2


def at_full_demand(site: Site, seed: int = 1, scenario: str = "nameplate") -> LockStep:
    """Plant and controller where the envelope binds and all is settled; the way there is not held to the ramp."""
    lock = LockStep(site, load_scenario(scenario), seed)
    plan = lock.plan
    hasty = plan.site.control.model_copy(update={"ramp_up_w_per_s": plan.site.control.envelope_w})
    lock.plan = replace(plan, site=plan.site.model_copy(update={"control": hasty}))
    for _ in range(FAST_S):
        lock.cycle()
    lock.plan = plan
    for _ in range(SETTLE_S):
        lock.cycle()
    return lock


def usual(lock: LockStep) -> Worked:
    """The work of BEFORE_S more seconds without a loss."""
    worked = Worked(lock.plant)
    for _ in range(BEFORE_S):
        lock.watched(lambda plant, _: worked.take(plant))
    return worked


def verdict_of(lock: LockStep) -> list[Verdict]:
    """What the controller says of every loss at this moment."""
    frames = lock.cycle()[0]
    orders = frames.orders
    return contingencies(lock.state.allocate.kit, frames.estimate, frames.limits, orders.cap_w, orders.shed)


def run_loss(
    lock: LockStep, element: Element, disobedient: float, seconds: float, seed: int, *, whole: bool = False
) -> Answer:
    """Lose an element here and now and go on for `seconds` after the last source came or went, or until all rests.

    `whole`: for `seconds` from the loss on, whatever happens.
    """
    rng = np.random.default_rng([seed, *element.id.encode()])
    record = Settling(lock.plant, lock.plan, frozenset({element.id}))
    start_s = lock.plant.t_s
    seen: list[Frames] = []
    before_w = lock.plant.truth().cap_w

    def see(plant: Plant, frames: Frames | None) -> None:
        record.take(plant, frames)
        if frames is not None:
            seen.append(frames)

    disobey(lock.plant, disobedient, rng)
    lock.plant.director.put(element.id, in_service=False)
    out = True
    most_s = seconds + (0.0 if whole else 2.0 * lock.plan.site.control.ups_battery_s)
    while (now_s := lock.plant.t_s - start_s) < most_s:
        if out and element.return_s is not None and now_s >= element.return_s:
            lock.plant.director.put(element.id, in_service=True)
            out = False
        lock.watched(see)
        if not whole and _over(lock, record, element, lock.plant.t_s - start_s, seconds):
            break
    record.end(lock.plant)
    return asdict(element) | {"disobedient": disobedient} | record.summary() | _said(lock, before_w, seen)


def _over(lock: LockStep, record: Settling, element: Element, now_s: float, seconds: float) -> bool:
    """Nothing more will come of it."""
    if bool(lock.plant.elec.on_battery.any()) or (element.return_s is not None and now_s < element.return_s + LEAST_S):
        return False
    if now_s - record.event_s >= seconds:
        return True
    least_s = SLOW_S if element.kind in SLOW else LEAST_S
    at_rest = now_s >= least_s and now_s - max(record.quiet_s, record.event_s) >= QUIET_S
    return at_rest and not record.warming(2.0 * seconds)


def _said(lock: LockStep, before_w: Floats, seen: Sequence[Frames]) -> dict[str, Any]:
    """What the controller did: its cycles, the racks brought below `before_w` [R], the rungs of the shed ladder."""
    cut = np.zeros(len(lock.plan.max_w), dtype=bool)
    for frames in seen:
        cut |= frames.orders.cap_w < before_w - 0.01 * lock.plan.max_w
    said = tuple(dict.fromkeys(words for frames in seen for words in frames.proposal.said))
    return {"cycles": len(seen), "racks_cut": int(cut.sum()), "shed": _shed(seen), "said": said[:SAID]}


def _shed(seen: Sequence[Frames]) -> dict[str, int]:
    """Racks on each rung of the shed ladder, the most at any time."""
    most: Counter[str] = Counter()
    for frames in seen:
        codes, counts = np.unique(() if frames.orders.shed is None else frames.orders.shed, return_counts=True)
        most |= Counter({Shed(c).name.lower(): int(n) for c, n in zip(codes, counts, strict=True) if c != Shed.NONE})
    return dict(most)


def run_drill(site: Site, options: Options, say: Say) -> dict[str, Any]:
    """Every run, and the summary by kind; BranchError when a run fails. Ctrl-C ends it with what has been done."""
    say(f"bringing {site.name} to full demand ..")
    lock = at_full_demand(site, options.seed)
    before = usual(lock)
    verdicts = {v.id: v for v in verdict_of(lock)}
    drawn = sample(site, options.losses, options.kinds, np.random.default_rng(options.seed))
    shares = [0.0] + [options.disobedient] * (options.disobedient > 0.0)
    cases = [(element, share) for share in shares for element in drawn]
    tasks = [partial(run_loss, lock, element, share, options.seconds, options.seed) for element, share in cases]
    runs: list[Answer] = []
    stopped = False
    try:
        for _, answer in branches(tasks, options.jobs):
            runs.append(answer)
            say(_line(len(runs), len(tasks), answer))
    except KeyboardInterrupt:
        stopped = True
        say(f"stopped after {len(runs)} of {len(tasks)} losses")
    for run in runs:
        verdict = verdicts[run["id"]]
        run |= {"secured": verdict.secured, "why": verdict.reason, "limit_s": _finite(verdict.limit_s)}
    order = {(element.id, share): i for i, (element, share) in enumerate(cases)}
    runs.sort(key=lambda r: order[r["id"], r["disobedient"]])
    return {"runs": runs, "summary": summary(runs, before.share(), stopped)}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _line(number: int, of: int, run: Answer) -> str:
    ill = violations(run)
    more = f" and {len(ill) - 1} more" * (len(ill) > 1)
    said = f"; {ill[0]}{more}" if ill else ""
    return f"{number}/{of} {run['kind']} {run['id']}: {run['seconds']:.0f} s{said}"
