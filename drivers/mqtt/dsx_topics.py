"""Names on the DSX Exchange BMS bus (NVIDIA dsx-exchange, schemas/asyncapi/bms, v1.0.0)."""

from drivers.profile import Point

ROOT = "BMS/v1/"
METADATA = ROOT + "PUB/Metadata/"
VALUE = ROOT + "PUB/Value/"
HEARTBEAT_S = 10.0
REPUBLISH_S = 100.0


def point_type(point: Point) -> str:
    """The DSX pointType of a profile's point: its topic up to the first slash."""
    return point.topic.partition("/")[0]


def point_key(object_type: str, point: Point, device_topic: str) -> str:
    """What follows `PUB/Value/`: objectType, pointType, and the tag path, which is unique per point.

    The tag path is the device's, then what tells the point apart (the rest of the profile's topic, or the pointType).
    """
    kind, _, rest = point.topic.partition("/")
    return f"{object_type}/{kind}/{device_topic}/{rest or kind}"


def process_area(point: Point) -> list[str]:
    """The words after the pointType in the profile's topic: `LiquidTemperature/Facility-Supply` gives two."""
    rest = point.topic.partition("/")[2]
    return rest.split("-") if rest else []


def write_topic(metadata_topic: str, integration: str) -> str:
    """Where an integration publishes the value of a point whose metadata names it; ValueError on another topic."""
    if not metadata_topic.startswith(METADATA):
        raise ValueError(f"{metadata_topic} is no metadata topic of the BMS")
    return f"{ROOT}{integration}/Value/{metadata_topic.removeprefix(METADATA)}"
