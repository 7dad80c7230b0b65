"""`python -m controller.history STATE`: the work that waits, once, at low priority. The controller starts it."""

import os
import sys
from pathlib import Path

from controller.history.work import advance
from drivers.clock import RealClock

if __name__ == "__main__":
    os.nice(10)
    for line in advance(Path(sys.argv[1]), RealClock().wall_ms()):
        print(line, file=sys.stderr)
