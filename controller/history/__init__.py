"""History of all points: a frame log a second, Parquet by the hour, minutes for plots."""

from controller.history.layout import Layout, layout_of
from controller.history.recorder import Recorder

__all__ = ["Layout", "Recorder", "layout_of"]
