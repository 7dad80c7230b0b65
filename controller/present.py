"""The present state as plain JSON: what a long answer needs, handed to the process that has the time for it."""

import base64
import io
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from controller.frames import Estimate, Frames, Limits
from controller.plan import Plan

SKIPPED = {"rows"}  # the plan's, at the cord shares


def packed(frames: Frames) -> dict[str, Any]:
    """Arrays of Estimate, Limits and Orders as one base64 archive, the rest as it is."""
    arrays: dict[str, Any] = {"share": frames.image.share, "cap_w": frames.orders.cap_w}
    if frames.orders.shed is not None:
        arrays["shed"] = frames.orders.shed
    for part in (frames.estimate, frames.limits):
        for name, value in _arrays(part).items():
            arrays[f"{type(part).__name__}.{name}"] = value
    file = io.BytesIO()
    np.savez(file, **arrays)
    image = frames.image
    return {
        "cycle": image.cycle,
        "at_s": image.now_s,
        "lost": list(frames.estimate.lost),
        "covered": frames.estimate.covered,
        "arrays": base64.b64encode(file.getvalue()).decode("ascii"),
    }


def unpacked(plan: Plan, like: Frames, reply: Mapping[str, Any]) -> Frames:
    """Frames `like` these with the packed state in them. ValueError where it is of another site."""
    with np.load(io.BytesIO(base64.b64decode(reply["arrays"])), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    estimate = replace(
        like.estimate,
        **_part(arrays, like.estimate),
        rows=plan.joint.at_shares(arrays["share"]),
        lost=tuple(reply["lost"]),
        covered=bool(reply["covered"]),
    )
    orders = replace(like.orders, cap_w=arrays["cap_w"], shed=arrays.get("shed"))
    image = replace(like.image, cycle=int(reply["cycle"]), now_s=float(reply["at_s"]), share=arrays["share"])
    return replace(
        like, image=image, estimate=estimate, limits=replace(like.limits, **_part(arrays, like.limits)), orders=orders
    )


def _arrays(part: Estimate | Limits) -> dict[str, Any]:
    named = {f.name: getattr(part, f.name) for f in fields(part) if f.name not in SKIPPED}
    return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


def _part(arrays: Mapping[str, Any], like: Estimate | Limits) -> dict[str, Any]:
    """The packed arrays of one frame, checked against those of a frame of this site."""
    out = {}
    for name, value in _arrays(like).items():
        given = arrays[f"{type(like).__name__}.{name}"]
        if given.shape != value.shape:
            raise ValueError(f"{name} of another site: {given.shape}, not {value.shape}")
        out[name] = given
    return out
