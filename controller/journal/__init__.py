"""The journal: what was ordered, asked and said, append-only and hash-chained."""

from controller.journal.recorder import Cycle, Recorder
from controller.journal.store import Entry, Journal, JournalError, open_read
from controller.journal.verify import Verdict, verify

__all__ = ["Cycle", "Entry", "Journal", "JournalError", "Recorder", "Verdict", "open_read", "verify"]
