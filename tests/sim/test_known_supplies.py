"""Power supplies of the racks against measured ones."""

import numpy as np
import pytest
from helpers_plant import FULL, UNCAPPED, make_plant

from sim.plant.supplies import supply_loss_w


def efficiency(input_w: float, nameplate_w: float) -> float:
    return 1.0 - float(supply_loss_w(np.array([input_w]), np.array([nameplate_w]))[0]) / input_w


@pytest.mark.parametrize(("input_w", "expected"), [(6400.0, 0.972), (2500.0, 0.9635), (3000.0, 0.965)])
def test_nodes_of_mlperf(input_w: float, expected: float) -> None:
    """FACTS P.3: 0.972 at 6.4 kW, 0.962 to 0.965 near 2 to 3 kW, nodes of 10.2 kW."""
    assert efficiency(input_w, 10200.0) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("nameplate_w", [10e3, 12.5e3, 14e3])
def test_frontiers_rectifier(nameplate_w: float) -> None:
    """FACTS P.1: 2,868.9 W of 2,971.1 W; within half a point whatever its size, which is not published there."""
    assert efficiency(2971.1, nameplate_w) == pytest.approx(2868.9 / 2971.1, abs=0.005)


def test_a_racks_supplies_take_their_part_and_a_dark_rack_none() -> None:
    plant = make_plant(*FULL, UNCAPPED, {"do": "outage", "at_s": 5.0, "id": "sub1"}, ups_battery_s=0.0)
    plant.step(5.0)
    t = plant.truth()
    assert t.supply_loss_w / t.it_power_w == pytest.approx(0.0034 + 0.0225, rel=0.02)
    plant.step(5.0)
    assert plant.truth().supply_loss_w < t.supply_loss_w
