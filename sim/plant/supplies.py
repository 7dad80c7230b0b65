"""Power supplies and rectifiers inside the racks: what they lose is part of the rack's power and heat already."""

from drivers.points import Floats

FIXED = 0.0034  # of the nameplate; both from 65 runs of MLPerf nodes of 10.2 kW: 0.972 out of AC at 6.4 kW, 0.9635 at
PER_W = 0.0225  # 2.5 kW (FACTS P.3)


def supply_loss_w(input_w: Floats, nameplate_w: Floats) -> Floats:
    """Loss between a rack's AC input and its DC side [W], while it has power."""
    loss: Floats = (FIXED * nameplate_w + PER_W * input_w) * (input_w > 0.0)
    return loss
