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
    """How long a device carries a load before it trips: points (load as share of rating, seconds), rising load.

    `credit`: the times are the shortest that its maker promises, so an overload may be planned with them. A
    standard's longest times, or figures without a source, earn no credit: the continuous rating is the limit.
    """

    points: tuple[tuple[float, float], ...]
    credit: bool
    source: str


TRIP_CURVES: dict[str, TripCurve] = {
    "ul489_standard": TripCurve(
        ((1.35, 7200.0), (2.0, 240.0)),
        False,
        "UL 489, longest times; standard-rated: 80 % for loads of 3 h and more (FACTS H)",
    ),
    "iec60947_2": TripCurve(((1.30, 7200.0),), False, "IEC 60947-2, longest time; 1.05 does not trip (FACTS H)"),
    "ups_apc": TripCurve(
        ((1.25, 60.0), (1.50, 30.0)), True, "APC specification: 105 % continuous, 125 % 1 min, 150 % 30 s (FACTS H)"
    ),
    "ups_huawei_2000g": TripCurve(
        ((1.10, 600.0), (1.30, 60.0), (1.50, 3.0)),
        True,
        "Huawei UPS2000-G below 35 C; times are halved at 35-40 C (FACTS H)",
    ),
    "ups_staco": TripCurve(((1.10, 120.0), (1.25, 30.0)), True, "Staco, on inverter (FACTS H)"),
    "transformer_c57_91": TripCurve((), False, "IEEE C57.91: 120-150 % for minutes to hours; no time known (FACTS H)"),
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
