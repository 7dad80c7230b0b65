"""Power of training second by second against a published node: MLPerf 5.0, 8 x B200, water-cooled (FACTS P.3).

The job model's habits are fitted on the first run of each workload and its statistics compared with the other runs.
"""

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from helpers_plant import make_plant
from helpers_water import DATA, with_reference

from drivers.points import Floats
from sim.plant.jobs import wave

FILE = DATA / "reference" / "mlperf50_b200_watercooled_node_1s.csv"
PAUSE = 0.85  # of the plateau: below it a second belongs to a pause (evaluation, checkpoint, data)
STEP_S, COMM = 1.7, 0.3  # of a training step; at one sample a second only its depth can be told


@cache
def runs() -> dict[str, list[Floats]]:
    """Each workload's runs over the plateau's 90th percentile, from first to last load, on a grid of one second."""
    raw: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with FILE.open(newline="") as file:
        for r in csv.DictReader(file):
            raw[r["bench"], r["run"]].append((float(r["t_s"]), float(r["node_W"])))
    found: dict[str, list[Floats]] = defaultdict(list)
    for (bench, _), samples in sorted(raw.items()):
        t_s, node_w = np.array(samples).T
        grid_w = np.interp(np.arange(t_s[0], t_s[-1] + 1.0), t_s, node_w)
        share = grid_w / np.quantile(grid_w, 0.9)
        loaded = np.flatnonzero(share > 0.8)
        found[bench].append(share[loaded[0] + 5 : loaded[-1] - 5])
    return found


@dataclass(frozen=True)
class Habits:
    """What the job model is told: shares of the plateau, seconds."""

    depth: float
    every_s: float  # 0 is never
    pause_s: float
    pause_share: float


def fit(share: Floats) -> Habits:
    """Swing from the spread outside of pauses; pauses from their number, their missing energy and their floor."""
    low = share < PAUSE
    starts = np.flatnonzero(np.diff(np.r_[0, low.astype(int)]) == 1)
    waves = np.array([wave(0.123 + k / STEP_S, 1.0 / STEP_S, COMM) for k in range(500)])
    depth = float(share[~low].std() / waves.std())
    if not len(starts):
        return Habits(depth, 0.0, 0.0, 0.5)
    floor, missing = float(share.min()), float((share[~low].mean() - share[low]).sum())
    return Habits(depth, len(share) / len(starts), missing / len(starts) / (1.0 - floor), floor)


def simulate(habits: Habits, seconds: int) -> Floats:
    """The plant's rack 1 with these habits, a mean each second, over its plateau's 90th percentile."""
    free = {"do": "ignore_caps", "at_s": 0, "count": 100_000}
    plant = make_plant({"do": "training", "to": 0.8, "depth": 0.0}, free)
    g, jobs = plant.network.racks.gang[0], plant.jobs
    jobs.depth[g], jobs.period_s[g], jobs.comm[g] = habits.depth, STEP_S, COMM
    jobs.checkpoint_every_s[g], jobs.checkpoint_s[g] = habits.every_s, habits.pause_s
    jobs.checkpoint_share[g] = habits.pause_share
    power_w = []
    for _ in range(seconds):
        plant.step(1.0)
        power_w.append(plant.readings.rack_mean_w()[0])
    share: Floats = np.array(power_w) / np.quantile(power_w, 0.9)
    return share


def statistics(share: Floats) -> dict[str, float]:
    """What a grid or a breaker feels of a trace."""
    change = np.abs(np.diff(share))
    return {
        "mean": float(share.mean()),
        "cv": float(share.std() / share.mean()),
        "spread": float(share[share >= PAUSE].std()),
        "paused": float((share < PAUSE).mean()),
        "largest": float(change.max()),
    }


@with_reference
@pytest.mark.parametrize("bench", ["bert", "llama2_70b_lora", "retinanet", "stable_diffusion"])
def test_swings_of_a_node_as_in_its_other_runs(bench: str) -> None:
    first, *others = runs()[bench]
    ours = statistics(simulate(fit(first), min(len(first), 900)))
    theirs = {k: float(np.median([statistics(x)[k] for x in others])) for k in ours}
    assert ours["mean"] == pytest.approx(theirs["mean"], abs=0.035)
    assert ours["cv"] == pytest.approx(theirs["cv"], abs=0.02)
    assert ours["spread"] == pytest.approx(theirs["spread"], rel=0.25)
    assert ours["paused"] == pytest.approx(theirs["paused"], abs=0.02)
    if fit(first).every_s > 0.0:
        assert ours["largest"] == pytest.approx(theirs["largest"], rel=0.3)
