"""Alarms by ISA-18.2: what is wrong becomes alarms that live, are seen, set aside and counted."""

from controller.alarms.board import AlarmError, Board, Change, listing
from controller.alarms.catalog import Kind, catalog
from controller.alarms.findings import SITE, Finding, findings, line, shed, standing
from controller.alarms.machine import State

ACTS = ("ack", "shelve", "unshelve", "out_of_service", "in_service")  # what operators do with them

__all__ = [
    "ACTS", "SITE", "AlarmError", "Board", "Change", "Finding", "Kind", "State", "catalog", "findings", "line",
    "listing", "shed", "standing",
]  # fmt: skip
