"""`python -m controller.history STATE NOW_MS`: the work that waits, once, at low priority. The controller starts it."""

import os
import sys
from pathlib import Path

from controller.history.work import advance

if __name__ == "__main__":
    os.nice(10)
    for line in advance(Path(sys.argv[1]), int(sys.argv[2])):
        print(line, file=sys.stderr)
