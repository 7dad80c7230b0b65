"""Larger and smaller of two float32 that are never NaN, in a form that the compiler can run over many at once.

Python's own max and min keep the order of NaN, and loops that collect an extreme with them are not vectorised.
"""

from typing import Any

from numba import types
from numba.extending import intrinsic


def _extreme(order: str) -> Any:
    """The one of two that comes first in `order`, < or >."""

    @intrinsic
    def pick(_typing: Any, _a: Any, _b: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            a, b = args
            flags = ("nnan", "nsz")
            return builder.select(builder.fcmp_ordered(order, a, b, flags=flags), a, b, flags=flags)

        return types.float32(types.float32, types.float32), generate

    found: Any = pick
    return found


larger = _extreme(">")
smaller = _extreme("<")
