"""Every single loss: what it takes with it, what it moves, and what must hold today so that it can be survived."""

from controller.contingency.losses import Loss, Stage
from controller.contingency.rows import Losses, compile_losses
from controller.contingency.water import Water

__all__ = ["Loss", "Losses", "Stage", "Water", "compile_losses"]
