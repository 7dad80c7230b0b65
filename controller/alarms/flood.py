"""How many alarms people get: rates, floods, chattering (EEMUA 191; ISA-18.2 clause 16). Pure; no clock."""

from collections import Counter, deque
from typing import Any

WINDOW_S = 600.0
FLOOD = 10  # more new alarms than this in 10 minutes are a flood
CHATTER, CHATTER_S = 3, 60.0  # an alarm that is raised so often within a minute chatters
KEPT = 20_000
TOP = 10


class Flood:
    """Raised alarms of the last hours; `raised` takes each in order of time."""

    def __init__(self) -> None:
        self._raised: deque[tuple[float, str]] = deque(maxlen=KEPT)
        self._recent: deque[float] = deque()
        self._last: dict[str, deque[float]] = {}
        self.total = 0
        self.most = 0  # in any 10 minutes

    def raised(self, now_s: float, name: str) -> None:
        """One alarm was raised."""
        self._raised.append((now_s, name))
        self._recent.append(now_s)
        self._age(now_s)
        self.total += 1
        self.most = max(self.most, len(self._recent))
        self._last.setdefault(name, deque(maxlen=CHATTER)).append(now_s)

    def _age(self, now_s: float) -> None:
        while self._recent and now_s - self._recent[0] > WINDOW_S:
            self._recent.popleft()

    def metrics(self, now_s: float) -> dict[str, Any]:
        """JSON-ready: raised within 10 minutes, the most ever so, chattering ones, those raised most in a day."""
        self._age(now_s)
        for name in [n for n, at in self._last.items() if now_s - at[-1] > WINDOW_S]:
            del self._last[name]
        chattering = [n for n, at in self._last.items() if len(at) == CHATTER and at[-1] - at[0] <= CHATTER_S]
        top = Counter(name for at_s, name in self._raised if now_s - at_s <= 86400.0)
        return {
            "per_10_min": len(self._recent),
            "most_per_10_min": self.most,
            "flood": len(self._recent) > FLOOD,
            "total": self.total,
            "chattering": sorted(chattering),
            "top": [[name, times] for name, times in top.most_common(TOP)],
        }
