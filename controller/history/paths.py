"""Where history lies in a state directory."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Folders and files of one site's history."""

    top: Path

    @classmethod
    def of(cls, state: Path) -> "Paths":
        """Of a site's state directory."""
        return cls(state / "history")

    @property
    def log(self) -> Path:
        """Frames as they came."""
        return self.top / "log"

    @property
    def recent(self) -> Path:
        """Transposed files of minutes that are not merged yet."""
        return self.top / "recent"

    @property
    def hours(self) -> Path:
        """Raw integers, a file an hour."""
        return self.top / "hours"

    @property
    def minutes(self) -> Path:
        """Least, mean and most of every minute, a file an hour."""
        return self.top / "minutes"

    @property
    def said(self) -> Path:
        """What the last work complained of."""
        return self.top / "work.log"

    def make(self) -> None:
        """Make the folders, for their owner alone."""
        for path in (self.top, self.log, self.recent, self.hours, self.minutes):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
