"""Work in steps: a generator that yields between two pieces and returns the result."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def whole(steps: Generator[None, None, T]) -> T:
    """The result of all steps at once: what the background work has when it is done."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
