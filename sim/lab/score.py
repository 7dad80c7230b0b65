"""What a demo run amounts to: powers from the plant's own truth, cycles and what binds from the controller's frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Score:
    """Collects one truth line and one frame a second; `summary` is what `headroom demo --json` ends with.

    Load is measured against the site's own envelope `envelope_w` [W]. Which seconds count as binding is the
    controller's word: its envelope row holds most capped racks and none of them is being paced.
    """

    def __init__(self, envelope_w: float) -> None:
        self._envelope_w = envelope_w
        self._frames: list[dict[str, Any]] = []
        self._peak_w = 0.0
        self._mean_w: list[float] = []
        self._over_s = 0
        self._handed: list[float] = []
        self._drawn: list[float] = []
        self._paced_s = 0
        self._late_before = 0  # of controllers that have died
        self._caps = 0
        self._trips = 0

    @property
    def frame(self) -> dict[str, Any] | None:
        """The newest frame of the controller."""
        return self._frames[-1] if self._frames else None

    def take_frame(self, frame: dict[str, Any]) -> None:
        """One cycle of the controller; a cycle number that falls is a new controller's."""
        if self.frame and frame["cycle"] < self.frame["cycle"]:
            self._late_before += self.frame["late_cycles"]
        self._frames.append(frame)
        self._caps += int(frame["caps_written"])

    def take_truth(self, truth: dict[str, Any]) -> None:
        """One second of the plant; it counts as over the envelope when any step of it is."""
        self._peak_w = max(self._peak_w, truth["site_peak_w"])
        self._mean_w.append(truth["site_mean_w"])
        self._over_s += truth["site_peak_w"] > self._envelope_w
        self._trips = int(truth["trips"])
        if self.frame and self.frame["envelope_binds"]:
            self._handed.append(truth["handed_out_w"] / self._envelope_w)
            self._drawn.append(truth["site_mean_w"] / self._envelope_w)
        elif self.frame:
            self._paced_s += self.frame["racks_paced"] > 0

    def summary(self) -> dict[str, Any]:
        """Figures of the whole run; None where nothing was seen."""
        last = self.frame or {}
        return {
            "cycles": len(self._frames),
            "late_cycles": self._late_before + last["late_cycles"] if last else None,
            "cycle_ms_p50": _percentile([f["step_ms"] for f in self._frames], 50),
            "cycle_ms_p99": _percentile([f["step_ms"] for f in self._frames], 99),
            "jitter_ms_p99": _percentile([f["jitter_ms"] for f in self._frames], 99),
            "envelope_mw": self._envelope_w / 1e6,
            "peak_mw": self._peak_w / 1e6,
            "mean_mw": (_mean(self._mean_w) or 0.0) / 1e6,
            "seconds_envelope_binds": len(self._handed),
            "seconds_paced": self._paced_s,
            "handed_out_share": _mean(self._handed),
            "drawn_share": _mean(self._drawn),
            "seconds_over_envelope": self._over_s,
            "racks": last.get("racks"),
            "racks_capped": max((f["racks_capped"] for f in self._frames), default=None),
            "racks_capped_without_reason": sum(f["racks_capped_without_reason"] for f in self._frames),
            "points_per_s": _percentile([f["points_per_s"] for f in self._frames], 50),
            "caps_written": self._caps,
            "trips": self._trips,
        }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _percentile(values: Sequence[float], q: float) -> float | None:
    return float(np.percentile(values, q)) if values else None
