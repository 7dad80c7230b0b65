"""What a run of a scenario must show: bounds on the scores of sim/lab/scores.py, None where there is none."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from sim.plant.event_model import EventModel, Seconds

Whole = Annotated[int, Field(ge=0)]
Most = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AtLeast = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LEAST = ("work_done", "envelope_used", "breaker_margin_min_s", "worst_gang_level")  # at least; the others at most


class Outcome(EventModel):
    """Bounds by the name of the score. What is not given in a file stands as here: safe, and nothing lost for good."""

    trips: Whole | None = 0
    beyond_deadline_s: Seconds | None = 0.0
    envelope_over_s: Seconds | None = 0.0
    forced_down_racks: Whole | None = 0
    gpu_shutdown_racks: Whole | None = 0
    gpu_throttle_rack_s: Most | None = None
    racks_dark: Whole | None = None
    recovery_s: Seconds | None = None
    envelope_reached_s: Seconds | None = None  # after the first request
    ramp_max_mw_per_min: Most | None = None
    rise_of_ramp: Most | None = None
    cap_moves: Whole | None = None
    slo_miss: Most | None = None
    work_done: AtLeast | None = None
    worst_gang_level: AtLeast | None = None
    envelope_used: AtLeast | None = None
    breaker_margin_min_s: Seconds | None = None

    def missed(self, scores: Mapping[str, Any]) -> list[str]:
        """Each bound that `scores` do not keep, in words; a score of None keeps no bound but a margin's."""
        words = []
        for name in type(self).model_fields:
            bound, value = getattr(self, name), scores.get(name)
            if bound is None or (value is None and name == "breaker_margin_min_s"):
                continue
            least = name in LEAST
            if value is None or (value < bound - 1e-9 if least else value > bound + 1e-9):
                seen = "was not seen" if value is None else f"{value:.4g}"
                words.append(f"{name} {seen}, {'at least' if least else 'at most'} {bound:.4g} was to be shown")
        return words
