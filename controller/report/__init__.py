"""A shift's or an event's report: one HTML file from journal and history, needs no network."""

from controller.report.page import write

__all__ = ["write"]
