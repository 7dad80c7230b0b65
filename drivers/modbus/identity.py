"""What a device says of itself, held against what the site file says of it."""

from dataclasses import astuple, dataclass
from fnmatch import fnmatchcase

from drivers.site.model import Device


@dataclass(frozen=True)
class Identity:
    """What a device says of itself; empty where it says nothing. `product` is its model, `revision` its firmware."""

    vendor: str = ""
    product: str = ""
    revision: str = ""
    serial: str = ""

    def __str__(self) -> str:
        named = zip(("", "", "firmware ", "serial "), astuple(self), strict=True)
        return ", ".join(word + text for word, text in named if text) or "says nothing of itself"


COLUMNS = {"vendor": "vendor", "model": "product", "firmware": "revision", "serial": "serial"}  # site -> Identity
DECLARED = tuple(COLUMNS)


def declared(device: Device) -> dict[str, str]:
    """What the site file says of who a device is: column -> text, empty columns left out."""
    return {name: text for name in DECLARED if (text := getattr(device, name))}


def differences(device: Device, identity: Identity) -> list[str]:
    """Where a device is not the one of the site file, in words; capitals and blanks do not count, * stands for any."""
    found = []
    for name, wanted in declared(device).items():
        shown = getattr(identity, COLUMNS[name])
        if not fnmatchcase(_fold(shown), _fold(wanted).replace("[", "[[]")):
            found.append(
                f"{name} is {shown!r}, the site file says {wanted!r}" if shown else f"it does not tell its {name}"
            )
    return found


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def text_of(data: bytes) -> str:
    """Registers or an identification object as text: up to the first zero, what cannot be shown replaced."""
    text = data.partition(b"\0")[0].decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
