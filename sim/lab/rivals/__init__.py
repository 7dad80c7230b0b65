"""Rivals: published power policies behind one protocol (policy.py), run in the same plant on the same wires."""

from importlib import import_module

from drivers.site.problems import did_you_mean
from sim.lab.rivals.policy import Factory, Layout, Policy, PolicyError, Seen

__all__ = ["OBJECTIVES", "POLICIES", "Factory", "Layout", "Policy", "PolicyError", "Seen", "factory_of"]

OBJECTIVES = ("fair", "throughput")  # headroom itself, with that objective
_RIVALS = {
    "static": "static:Static",
    "uniform": "uniform:Uniform",
    "dynamo": "dynamo:Dynamo",
    "thunderbolt": "thunderbolt:Thunderbolt",
    "proportional": "proportional:Proportional",
    "pi": "pi:PI",
    "maxsum": "maxsum:MaxSum",
}
POLICIES: tuple[str, ...] = (*OBJECTIVES, *_RIVALS)


def factory_of(name: str) -> Factory:
    """The rival of that name, or the class that `package.module:Class` names; PolicyError if there is none."""
    where = f"{__name__}.{_RIVALS[name]}" if name in _RIVALS else name
    module, colon, attribute = where.partition(":")
    if not colon:
        hint = did_you_mean(name, POLICIES, "Name a class of your own as package.module:Class.")
        raise PolicyError(f"there is no policy '{name}'. {hint} Known: {', '.join(POLICIES)}")
    try:
        factory: Factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PolicyError(f"policy '{name}' cannot be imported ({error}); is it on PYTHONPATH?") from error
    if not callable(factory):
        raise PolicyError(f"policy '{name}' is no class, it is {factory!r:.60}")
    return factory
