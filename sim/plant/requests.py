"""Inference as requests: they arrive, wait their turn, are worked off at the speed that power allows, or given up.

Work is counted in rack seconds at full speed. A request costs its prompt (compute-bound) and its answer (bound by
memory). What waits is a queue of work, first in, first out, served as fast as it would take SERVICE_S to empty it and
never faster than the racks can: so an empty site follows its arrivals, and a short one runs at full power until its
queue is gone. Ages need no list: whatever had arrived `patience_s` ago and is neither served nor given up now, is
given up now; the same line at `late_s` tells what is answered too late. One figure a step and job over that time is
all that is remembered.
"""

from dataclasses import dataclass

import numpy as np

from drivers.points import Floats, Ints
from drivers.site.model import Site
from sim.plant.arrivals import Arrivals, Source
from sim.plant.base import DT_S
from sim.plant.jobs import JobState
from sim.plant.network import Network

GENERATE_PER_S = {"H100": 1229.0, "H200": 1229.0, "GB200": 2686.0}  # tokens a GPU: 70 B at batch 256 (FACTS P.4)
# Prompt tokens a GPU: 2 x 70e9 operations each at half of the 989e12 a second of an H100's data sheet; assumed. A
# Blackwell as many times as many as it generates.
PREFILL_PER_S = {"H100": 3530.0, "H200": 3530.0, "GB200": 7720.0}
SERVICE_S = 1.0  # a prompt of 2,000 tokens and an answer of 30, alone on a GPU of the above: 0.6 s; batched, a second
IDLE_BATCH = 0.1  # of its full rate: below it a GPU that generates is idle between requests (470 of 4,915 tokens/s)
FLAT = 0.72  # of its power at full rate does a GPU draw there: 441 W of 589 W at a tenth (FACTS P.4), line through both


def power_level(rate: Floats, prefill: Floats) -> Floats:
    """Power of racks between idle (0) and nameplate (1) at a share of their full rate, `prefill` of it by prompts.

    Prompts run at full power one after the other (FACTS P.4); generating draws nearly as much in small batches.
    """
    generating = (FLAT + (1.0 - FLAT) * rate) * np.minimum(rate / IDLE_BATCH, 1.0)
    level: Floats = prefill * rate + (1.0 - prefill) * generating
    return level


@dataclass
class Queue:
    """What has come, gone and waits, of J jobs; all in rack seconds at full speed [J], sums since the start."""

    arrived: Floats
    served: Floats
    given_up: Floats
    late: Floats  # of what was served
    past: Floats  # [K, J] `arrived` at the end of each step, a ring over the longest patience
    late_steps: int
    steps: int = 0

    @classmethod
    def empty(cls, jobs: int, late_s: float, patience_s: float) -> "Queue":
        """Nothing has come yet."""
        ring = round(max(patience_s, late_s) / DT_S) + 1
        zero = np.zeros(jobs)
        return cls(zero.copy(), zero.copy(), zero.copy(), zero.copy(), np.zeros((ring, jobs)), round(late_s / DT_S))

    def waiting(self) -> Floats:
        """Work that is neither served nor given up [J]."""
        return np.maximum(self.arrived - self.served - self.given_up, 0.0)

    def arrive(self, work: Floats) -> None:
        """Work that comes in this step."""
        self.arrived += work

    def leave(self, able: Floats) -> None:
        """End of a step in which so much could be served: the oldest first; then those who have waited too long go."""
        gone = self.served + self.given_up
        served = np.minimum(able, self.waiting())
        ring = len(self.past)
        at = self.steps % ring
        self.past[at] = self.arrived
        overdue = self.past[(at - self.late_steps) % ring] if self.steps >= self.late_steps else 0.0
        self.late += np.clip(overdue - gone, 0.0, served)
        self.served += served
        oldest = self.past[(at + 1) % ring] if self.steps >= ring - 1 else 0.0
        self.given_up += np.maximum(oldest - gone - served, 0.0)
        self.steps += 1


class Requests:
    """The inference jobs of a plant under arrivals: sets what they want to do now, and takes what they have done."""

    def __init__(
        self, site: Site, network: Network, jobs: JobState, source: Source, late_s: float, patience_s: float, *,
        day: float, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        racks, gangs = network.racks, network.gangs
        self._gang: Ints = np.flatnonzero(~gangs.training)  # [J]
        self._racks = gangs.racks[self._gang].astype(float)
        per_s = np.array([[GENERATE_PER_S[r.gpu_model], PREFILL_PER_S[r.gpu_model]] for r in site.racks]).T
        able = [np.bincount(racks.gang, racks.gpus * x, len(gangs.racks))[self._gang] for x in per_s]
        self._generate_s, self._prefill_s = self._racks / able[0], self._racks / able[1]  # rack seconds a token
        answer, prompt = source.generated_tokens * self._generate_s, source.context_tokens * self._prefill_s
        self._request_s, self.prefill = prompt + answer, prompt / (prompt + answer)
        self._per_source = source.rate_per_s * self._request_s
        self._arrivals = Arrivals(source, self.sources(jobs, day), rng)
        self.queue = Queue.empty(len(self._gang), late_s, patience_s)
        self.settle(jobs, day)

    def sources(self, jobs: JobState, day: float) -> Floats:
        """Sources of each job's requests, so that their mean work is the job's share of what its racks can do [J]."""
        sources: Floats = jobs.share[self._gang] * day * self._racks / self._per_source
        return sources

    def settle(self, jobs: JobState, day: float) -> None:
        """Jobs that have long served the mean of their requests."""
        self._want(jobs, np.minimum(jobs.share[self._gang] * day, 1.0))

    def arrive(self, jobs: JobState, day: float) -> None:
        """Requests of this step come in; what the jobs want to do in it."""
        _, context, generated = self._arrivals.step(self.sources(jobs, day))
        work = context * self._prefill_s + generated * self._generate_s
        self.queue.arrive(work)
        jobs.asked[self._gang] += work
        self._want(jobs, np.minimum(self.queue.waiting() / (SERVICE_S * self._racks), 1.0))

    def serve(self, jobs: JobState) -> None:
        """The step is over: `serving` racks' worth of speed has worked at the rate that was wanted."""
        before = self.queue.served.copy()
        self.queue.leave(jobs.rate[self._gang] * jobs.serving[self._gang] * DT_S)
        jobs.work[self._gang] += self.queue.served - before

    def _want(self, jobs: JobState, rate: Floats) -> None:
        jobs.rate[self._gang] = rate
        jobs.level[self._gang] = power_level(rate, self.prefill)

    def missed(self) -> tuple[float, float]:
        """Work that was answered late or given up, and all that was to be answered so far [rack seconds]."""
        q = self.queue
        return float((q.late + q.given_up).sum()), float((q.served + q.given_up).sum())
