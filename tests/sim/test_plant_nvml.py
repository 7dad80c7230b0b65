"""What agents show of power against NVML's own way of looking, carried out window by window."""

import numpy as np
import pytest
from helpers_plant import UNCAPPED, make_plant

from sim.plant.base import DT_S
from sim.plant.nvml import EVERY_S, LOOK_S, SHIFT_S, seen_w


def looked_at(step_w: np.ndarray, began_s: float) -> float:
    """Mean of ten windows of LOOK_S, EVERY_S apart, the first `began_s` into the last second of steps of DT_S."""
    start_s = DT_S * len(step_w) - 1.0 + began_s
    fine_s = 1e-4
    t_s = np.concatenate([start_s + k * EVERY_S + np.arange(0.5 * fine_s, LOOK_S, fine_s) for k in range(10)])
    return float(step_w[(t_s / DT_S).astype(int)].mean())


@pytest.mark.parametrize("began_s", [0.0, 0.03, 0.0749])
def test_a_second_is_shown_as_nvml_looks_at_it(began_s: float) -> None:
    """A ramp, where ten looks are the mean of a shifted second; steps of power lie within a look's distance."""
    step_w = 700.0 * np.linspace(0.2, 1.0, 9)
    late_s = 0.5 * (EVERY_S - LOOK_S) - began_s
    assert SHIFT_S[0] <= late_s <= SHIFT_S[1]
    mean_w, gone_w = step_w[-4:].mean(), step_w[-5]
    ours = seen_w(np.array([mean_w]), step_w[-1:], np.array([gone_w]), np.array([late_s]))[0]
    assert ours == pytest.approx(looked_at(step_w, began_s), abs=0.5 * 700.0 * 0.1 * EVERY_S / 1.0)
    assert abs(ours - mean_w) <= abs(late_s) * (step_w[-1] - gone_w) + 1e-9


def test_agents_show_means_of_a_second_a_little_early_or_late() -> None:
    plant = make_plant({"do": "training", "to": 1.0, "depth": 0.35, "period_s": 4.0}, UNCAPPED)
    steps: list[np.ndarray] = []
    shown, mean = [], []
    for _ in range(400):
        plant.step()
        steps.append(plant.truth().rack_w)
        if len(steps) > 8:
            shown.append(plant.agents.columns(plant._agents_w())[:, 0])
            mean.append(np.mean(steps[-4:], axis=0))
    off = (np.array(shown) - np.array(mean))[:, :3] / 81600
    assert 1e-4 < np.abs(off).max() < 0.01
    assert np.array(shown)[:, :3].mean() == pytest.approx(np.array(mean)[:, :3].mean(), rel=1e-3)


def test_steady_power_is_shown_as_it_is() -> None:
    plant = make_plant({"do": "training", "to": 0.8, "depth": 0.0}, UNCAPPED)
    plant.step(120.0)
    assert plant._agents_w()[:3] == pytest.approx(plant.truth().rack_w[:3], rel=2e-4)


def test_the_shifts_are_those_of_free_running_clocks() -> None:
    plant = make_plant()
    gpu_s = plant._nvml.gpu_s
    assert gpu_s.min() >= SHIFT_S[0]
    assert gpu_s.max() <= SHIFT_S[1]
    assert len(gpu_s) == 256
    assert plant._nvml.rack_s[0] == pytest.approx(gpu_s[:64].mean())
