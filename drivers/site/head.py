"""Read site.yaml: the few things that are no tables, each with its line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from drivers.site.model import Actuator, Control, Mqtt, SiteModel
from drivers.site.problems import UNREAD, Problem, did_you_mean, words

KEYS = ("name", "title", "assumptions", "control", "mqtt", "actuators")
M = TypeVar("M", bound=SiteModel)
STAND_INS: dict[str, object] = {  # for what is broken, so large or loose that no rule finds a second mistake in it
    "envelope_w": 1e15,
    "ramp_up_w_per_s": 1e15,
    "ramp_down_w_per_s": 1e15,
    "lease_decay_s": 600.0,
    "power_factor_worst": 1.0,
    "supply_max_c": 1e4,
    "fed_from": (UNREAD,),
}
BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans, `true` and `false`: `shed: off` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != BOOL or first in "tTfF"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass
class Head:
    """The parts of site.yaml; what is broken has left a problem, and a stand-in so that all else can be checked."""

    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)  # dotted key -> line
    name: str = "unread"
    title: str = ""
    assumptions: tuple[str, ...] = ()
    control: Control = field(default_factory=lambda: _stand_in(Control, {}, frozenset(Control.model_fields)))
    mqtt: Mqtt = field(default_factory=lambda: _stand_in(Mqtt, {}, frozenset(Mqtt.model_fields)))
    actuators: dict[str, Actuator] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)  # actuators that are broken

    def note(self, key: str, what: str, fix: str) -> None:
        """A problem at a key, or at the nearest key above it that has a line."""
        at = key
        while at and at not in self.lines:
            at = at.rpartition(".")[0]
        self.problems.append(Problem(f"site.yaml:{self.lines.get(at, 1)}", what, fix))


def _number_lines(node: yaml.Node | None, path: str, head: Head) -> None:
    """Note the line of every key below a node, and the keys that stand twice."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        at, line = f"{path}{key.value}", key.start_mark.line + 1
        if at in head.lines:
            head.problems.append(Problem(f"site.yaml:{line}", f"key '{at}' stands twice", "Remove one"))
        head.lines.setdefault(at, line)
        _number_lines(value, f"{at}.", head)


def _read(path: Path, head: Head) -> Mapping[Any, Any]:
    """The keys of the file; none, with a problem noted, if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        _number_lines(yaml.compose(text, Loader=yaml.SafeLoader), "", head)
        raw = _Loader(text).get_single_data()
    except FileNotFoundError:
        head.note("", "file is missing", "`headroom site new hall DIR` writes an example")
        return {}
    except OSError as error:
        head.note("", f"cannot be read ({error.strerror})", "Check the file")
        return {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        head.problems.append(Problem(f"site.yaml:{line}", f"broken YAML ({error.problem})", "Mend this line"))
        return {}
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        head.note("", f"broken YAML ({str(error).splitlines()[0]})", "Save the file as plain UTF-8 text")
        return {}
    if not isinstance(raw, dict):
        head.note("", "no keys found", f"Give {', '.join(KEYS)}")
        return {}
    return raw


def _part(model: type[M], value: object, at: str, head: Head) -> tuple[M | None, frozenset[str]]:
    """A part of the file, or None and the keys that are broken, which are noted."""
    if not isinstance(value, dict):
        head.note(at, f"{at} is {value!r}", "Write keys with values below it")
        return None, frozenset(model.model_fields)
    broken = set()
    try:
        return model.model_validate({str(k): v for k, v in value.items()}), frozenset()
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            what, fix = words(detail, model)
            broken.add(str(detail["loc"][0]) if detail["loc"] else "")
            key = ".".join([at, *map(str, detail["loc"][:1])])
            head.note(key, f"{at}: {what}", fix)
        return None, frozenset(broken)


def _whole(model: type[M], value: object, at: str, head: Head) -> M:
    """A part of the file with stand-ins for what is broken in it."""
    part, broken = _part(model, value, at, head)
    if part is not None:
        return part
    sound = {str(k): v for k, v in value.items() if str(k) not in broken} if isinstance(value, dict) else {}
    return _stand_in(model, sound, broken)


def _stand_in(model: type[M], sound: Mapping[str, object], broken: frozenset[str]) -> M:
    known = {name: STAND_INS[name] for name in broken if name in STAND_INS and name in model.model_fields}
    return model.model_validate({**sound, **known})


def _text(raw: Mapping[Any, Any], key: str, head: Head) -> str:
    value = raw.get(key)
    if isinstance(value, str) and value.strip():
        return value
    head.note(key, f"{key} is {value!r}" if key in raw else f"{key} is missing", "Write a text")
    return ""


def read_head(path: Path) -> Head:
    """Everything that can be read of a site.yaml; raises nothing."""
    head = Head()
    raw = _read(path, head)
    if not raw:
        return head
    for key in raw:
        if key not in KEYS:
            head.note(str(key), f"key {str(key)!r} is unknown", did_you_mean(str(key), KEYS, f"Known: {KEYS}"))
    head.name, head.title = _text(raw, "name", head) or head.name, _text(raw, "title", head)
    notes = raw.get("assumptions") or []
    if isinstance(notes, list) and all(isinstance(n, str) for n in notes):
        head.assumptions = tuple(notes)
    else:
        head.note("assumptions", "assumptions is no list of texts", "Write one `- text` line for each")
    head.control = _whole(Control, raw.get("control"), "control", head)
    head.mqtt = _whole(Mqtt, raw.get("mqtt") or {}, "mqtt", head)
    actuators = raw.get("actuators")
    if not isinstance(actuators, dict) or not actuators:
        head.note("actuators", "there are no actuators", "Describe at least one, e.g. inband")
        return head
    for name, value in actuators.items():
        part, _ = _part(Actuator, value, f"actuators.{name}", head)
        if part is None:
            head.unread.add(str(name))
        else:
            head.actuators[str(name)] = part
    return head
