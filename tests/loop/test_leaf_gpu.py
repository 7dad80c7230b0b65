"""Leaf gpu in closed loop: at a binding envelope caps of single GPUs make gangs faster than one cap per rack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from drivers.points import Floats
from drivers.site.load import resolve_site
from drivers.site.model import Site
from drivers.wires import CapCommand, Command
from sim.lab.lockstep import LockStep, MemoryWires
from sim.plant.events import Scenario

SECONDS, LEARNT_S = 150, 75
FULL = Scenario.model_validate(
    {"name": "full", "title": "full", "events": [{"do": "training", "to": 0.95}, {"do": "inference", "to": 0.8}]}
)


@dataclass
class Run:
    """What came of it: work after the wishes are learnt, the most that the site drew, trips, and the loop's end."""

    work: Floats  # [G]
    most_w: float
    trips: int
    loop: LockStep


class Losing(MemoryWires):
    """Wires on which the leases' caps of GPUs are lost."""

    def send(self, commands: Sequence[Command]) -> int:
        """Only the racks' caps arrive."""
        caps = [c for c in commands if isinstance(c, CapCommand)]
        return super().send([CapCommand(replace(c.lease, gpu_cap_w=None)) for c in caps])


def hall(envelope_share: float) -> Site:
    """A hall with caps per GPU and an envelope that binds."""
    site = resolve_site("hall")
    envelope_w = site.control.envelope_w * envelope_share
    return site.model_copy(
        update={"control": site.control.model_copy(update={"leaf": "gpu", "envelope_w": envelope_w})}
    )


def run(site: Site, *, per_gpu: bool) -> Run:
    """The same hall and seed; without `per_gpu` no cap of a GPU arrives, and agents share their racks' out equally."""
    loop = LockStep(site, FULL)
    if not per_gpu:
        loop.wires = Losing(loop.plant)
    powers, learnt = [], np.zeros(0)
    for second in range(SECONDS):
        _, truth = loop.cycle()
        if second == LEARNT_S:
            learnt = loop.plant.jobs.work.copy()
        powers.append(truth.site_power_w)
    return Run(loop.plant.jobs.work - learnt, max(powers[30:]), truth.trips, loop)


def test_gangs_do_more_with_caps_per_gpu_at_the_same_envelope() -> None:
    site = hall(0.8)
    own, equal = run(site, per_gpu=True), run(site, per_gpu=False)
    training = own.loop.plant.network.gangs.training
    assert own.work[training].sum() > 1.02 * equal.work[training].sum()
    assert own.work.sum() > 1.01 * equal.work.sum()
    assert own.trips == equal.trips == 0
    assert own.most_w <= site.control.envelope_w
    gpus, state = own.loop.plant.gpus, own.loop.state.gpus
    assert gpus is not None
    assert state is not None
    assert np.corrcoef(state.wish, gpus.wish)[0, 1] > 0.9
    holder = own.loop.plant.agents.holder
    given_w = np.where(holder.gpu_cap_w >= 0, holder.gpu_cap_w, 0).sum(axis=1)
    assert (given_w + state.leaves.other_w <= holder.cap_w).all()
