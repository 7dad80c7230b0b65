"""What is known of GPUs, of how their work depends on power, and of how long devices carry an overload: data only."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Kind = Literal["training", "inference"]
Curve = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Gpu:
    """A GPU's power range [W]."""

    tdp_w: float
    min_cap_w: float
    idle_w: float
    source: str


GPUS: dict[str, Gpu] = {
    "H100": Gpu(700, 200, 100.9, "nvidia-smi dump of an H100 SXM at 30 C (FACTS C.1)"),
    "H200": Gpu(700, 200, 100.9, "MLPerf v4.1 power settings; range and idle as H100, its sibling (FACTS C.1)"),
    "GB200": Gpu(1200, 200, 200, "NVIDIA DPS device spec 200-1200 W; DPS idle policy 200 W (FACTS C.1)"),
}


@dataclass(frozen=True)
class TripCurve:
    """How long a device carries a load before it trips: (load as multiple of its derated rating, seconds), rising load.

    `points` is the lower edge of the band, a staircase: above `continuous` and up to a point's load the device may
    trip after the point's time, above the last point at once. `longest` is the upper edge: it has tripped by then.
    `credit`: an overload may be planned with the lower edge. A standard's longest times, or figures without a source,
    earn none: the continuous rating is the limit. From the brink of a trip it has cooled after `cool_s` [s].
    """

    points: tuple[tuple[float, float], ...]
    credit: bool
    source: str
    longest: tuple[tuple[float, float], ...] = ()
    continuous: float = 1.0
    cool_s: float = 600.0
    derating: float = 1.0  # most of its nameplate that continuous load may take


UPS_COOL_S = 600.0  # no maker's figure was found: ten minutes, no less than the longest overload of any UPS here
BREAKER_COOL_S = 7200.0  # as long as it takes to trip at the least overload

TRIP_CURVES: dict[str, TripCurve] = {
    "ul489_standard": TripCurve(
        (),
        False,
        "UL 489, longest times only; standard-rated: 80 % for loads of 3 h and more (FACTS H)",
        longest=((1.35, 7200.0), (2.0, 240.0)),
        cool_s=BREAKER_COOL_S,
        derating=0.8,
    ),
    "ul489_large_frame": TripCurve(
        (),
        False,
        "UL 489, longest times of frames of hundreds of A and more; standard-rated: 80 % (FACTS H)",
        longest=((1.35, 7200.0), (2.0, 1680.0)),
        cool_s=BREAKER_COOL_S,
        derating=0.8,
    ),
    "iec60947_2": TripCurve(
        (),
        False,
        "IEC 60947-2, longest time; 1.05 does not trip within 2 h (FACTS H)",
        longest=((1.30, 7200.0),),
        cool_s=BREAKER_COOL_S,
    ),
    "fuse": TripCurve((), False, "No times at hand: take the maker's sheet for a curve of its own"),
    "ups_apc": TripCurve(
        ((1.25, 60.0), (1.50, 30.0)),
        True,
        "APC specification: 105 % continuous, 125 % 1 min, 150 % 30 s; upper edge of large units (FACTS H)",
        longest=((1.25, 600.0), (1.50, 60.0)),
        continuous=1.05,
        cool_s=UPS_COOL_S,
    ),
    "ups_huawei_2000g": TripCurve(
        ((1.10, 600.0), (1.30, 60.0), (1.50, 3.0)),
        True,
        "Huawei UPS2000-G below 35 C: 105 % continuous, 110 % 10 min, 130 % 1 min, 150 % 3 s (FACTS H)",
        continuous=1.05,
        cool_s=UPS_COOL_S,
    ),
    "ups_huawei_2000g_hot": TripCurve(
        ((1.10, 300.0), (1.30, 30.0), (1.50, 1.5)),
        True,
        "Huawei UPS2000-G at 35-40 C: half the times (FACTS H)",
        continuous=1.05,
        cool_s=UPS_COOL_S,
    ),
    "ups_staco": TripCurve(
        ((1.10, 120.0), (1.25, 30.0)),
        True,
        "Staco, on inverter: 110 % 2 min, 125 % 30 s (FACTS H); its bypass is not counted on",
        cool_s=UPS_COOL_S,
    ),
    "transformer_c57_91": TripCurve((), False, "IEEE C57.91: 120-150 % for minutes to hours; no time known (FACTS H)"),
    "generator_iso8528": TripCurve((), False, "ISO 8528: standby sets have no overload (FACTS H)"),
}

# The measurements (gpu, workload, cap_w; a row of curves.csv) behind each curve, from the lowest cap up. No sweep of
# training on Hopper or Blackwell was found: the A100's pre-training of MPT-13B stands for them, the largest
# synchronous job measured. For inference the H200's MLPerf server rows, the language models only, continued below
# half of TDP by the A100's; they may include a change of batch, so they rather overstate what a cap costs.
_TRAINING = tuple(("A100", "pt_mpt_13b_lg", cap) for cap in (100, 200, 250, 300, 350, 400))
_INFERENCE = (
    ("A100", "infer_llama_8b_48g", 100),
    ("H200", "gpt-j-server", 350),
    ("H200", "llama2-70b-server", 500),
)
MEASURED: dict[tuple[str, Kind], tuple[tuple[str, str, int], ...]] = {
    ("H100", "training"): _TRAINING,
    ("H100", "inference"): _INFERENCE,
    ("H200", "training"): _TRAINING,
    ("H200", "inference"): _INFERENCE,
    ("GB200", "training"): _TRAINING,
    ("GB200", "inference"): _INFERENCE,
}


@cache
def _rows() -> dict[tuple[str, str, int], tuple[float, float]]:
    """(gpu, workload, cap_w) -> (cap as share of TDP, throughput relative to uncapped)."""
    with (Path(__file__).parent / "curves.csv").open(encoding="utf-8", newline="") as file:
        return {
            (r["gpu"], r["workload"], int(r["cap_w"])): (
                float(r["cap_w"]) / float(r["tdp_w"]),
                float(r["rel_throughput"]),
            )
            for r in csv.DictReader(file)
        }


@cache
def curve(gpu_model: str, kind: Kind) -> Curve:
    """Throughput against power as points of straight pieces: (power shares, throughputs), both rising to 1.

    The power share of a rack is (its power - other_w) / (max_w - other_w): what is left for its GPUs, relative to
    that at nameplate. It starts at the lowest cap measured, below which nothing is known. KeyError on an unknown
    model. Source: ai-emerald/emerald-ai-demo-may-2025 (Apache-2.0) and mlcommons/inference_results_v4.1.
    """
    points = [_rows()[row] for row in MEASURED[gpu_model, kind]]
    if points[-1][0] < 1:
        points.append((1.0, 1.0))
    return tuple(p for p, _ in points), tuple(t for _, t in points)
