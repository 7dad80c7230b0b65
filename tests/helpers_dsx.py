"""NVIDIA's schemas of the BMS bus as validators, and a BMS of ours whose messages end in a list."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers_mqtt import PROFILES
from helpers_site import tiny_site
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from drivers.clock import VirtualClock
from drivers.site.load import resolve_site
from sim.serve.bms import Bms

BMS_YAML = Path(__file__).resolve().parents[2] / "shared" / "dsx" / "bms.yaml"
with_schemas = pytest.mark.skipif(not BMS_YAML.exists(), reason="NVIDIA's bms.yaml is not beside the checkout")


@cache
def catalog() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(BMS_YAML.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return document


@cache
def validator(message: str) -> Draft202012Validator:
    """Validator of one message's payload."""
    resource: Resource[Any] = Resource.from_contents(catalog(), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:bms", resource)
    return Draft202012Validator({"$ref": f"urn:bms#/components/messages/{message}/payload"}, registry=registry)


def check(topic: str, payload: bytes) -> str:
    """Validate a message by its topic's channel and pointType; the name of the message type."""
    publisher, kind, object_type, point_type = topic.split("/")[2:6]
    who = "PUB" if publisher == "PUB" else "{integration}"
    pattern = f"BMS/v1/{who}/{kind}/{object_type}/{{pointType}}/{{tagPath}}"
    channel = next(c for c in catalog()["channels"].values() if c["address"] == pattern)
    assert point_type in channel["parameters"]["pointType"]["enum"], topic
    messages = channel["messages"]
    key = "valueMessage" if kind == "Value" else point_type[0].lower() + point_type[1:]
    name: str = messages[key]["$ref"].rpartition("/")[2]
    body = json.loads(payload)
    errors = [error.message for error in validator(name).iter_errors(body)]
    assert not errors, (topic, body, errors)
    if kind == "Metadata":
        assert (body["objectType"], body["pointType"]) == (object_type, point_type)
    return name


def fake_bms(site_name: str) -> tuple[Bms, VirtualClock, list[tuple[str, bytes, bool]]]:
    """A BMS whose messages end in a list."""
    clock = VirtualClock()
    sent: list[tuple[str, bytes, bool]] = []
    site = tiny_site() if site_name == "tiny" else resolve_site(site_name)

    def publish(topic: str, payload: bytes, retain: bool) -> bool:
        sent.append((topic, payload, retain))
        return True

    return Bms(site, PROFILES, clock, publish), clock, sent


def run(bms: Bms, clock: VirtualClock, seconds: float, step_s: float = 0.25) -> None:
    for _ in range(round(seconds / step_s)):
        clock.advance(step_s)
        bms.tick()
