"""What every part of the plant shares: its step, its one power factor, its error."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from drivers.points import Ints

Bools = NDArray[np.bool_]

DT_S = 0.25  # the plant's only step
POWER_FACTOR = 0.98  # of all loads: corrected power supplies and active front ends
VAR_PER_W = (1.0 / POWER_FACTOR**2 - 1.0) ** 0.5


class PlantError(Exception):
    """The plant broke a law of nature or was asked for something it does not have."""


def ints(values: Iterable[int]) -> Ints:
    """Positions as an array, also when there are none."""
    return np.array(list(values), dtype=np.int64)


def _forget_stale() -> None:
    """Numba keeps a compiled function for as long as its own file stays, whatever changes in those that it calls.

    So all of them go when any file of the plant has changed; a place that cannot be written has no such files.
    """
    folder = Path(__file__).parent
    sources = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.glob("*.py")))).hexdigest()
    mark = folder / "__pycache__" / "sources.sha256"
    with contextlib.suppress(OSError):
        if mark.is_file() and mark.read_text() == sources:
            return
        for kept in mark.parent.glob("*.nb[ic]"):
            kept.unlink(missing_ok=True)
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(sources)


_forget_stale()
Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(**options: Any) -> Callable[[Function], Function]:
    """Numba's njit that keeps a function's type; kernels divide as the hardware does."""
    decorator: Callable[[Function], Function] = njit(error_model="numpy", **options)
    return decorator


# Array references are not counted in a kernel, which would cost more than its work; so it cannot allocate.
KERNEL = _compiled(cache=True, _nrt=False)
ALLOCATING = _compiled(cache=True)
INSIDE = _compiled(forceinline=True, _nrt=False)  # small, or takes whole states, which a call would copy
LOOP = _compiled(cache=True, _nrt=False, fastmath={"reassoc", "contract", "arcp", "nsz"})  # runs over many at once
