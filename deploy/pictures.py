"""Makes the README's pictures of the console: `.venv/bin/python deploy/pictures.py`, from a surge at colossus.

Needs Chromium (apt-get install chromium). Demand climbs past the envelope, then a pump trips: about four minutes.
"""

import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
LISTEN = "127.0.0.1:8601"
AFTER_S = 175.0  # the surge binds and the pump has tripped
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
FIRST = re.compile(r"first user (\S+), password (\S+)")
SHOTS = (("overview", WIDE, ""), ("floor", WIDE, "[data-look=level]"), ("overview", PHONE, ""))


def main() -> None:
    """Run the demo, look at it, and keep what is seen beside this file."""
    command = [sys.executable, "-c", "from drivers.cli import main; main()", "demo", "--site", "colossus"]
    demo = subprocess.Popen(  # noqa: S603
        [*command, "--listen", LISTEN], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert demo.stderr is not None
        found = next(match for line in demo.stderr if (match := FIRST.search(line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
            page = browser.new_page(viewport=WIDE)
            page.wait_for_timeout(20_000)
            page.goto(f"http://{LISTEN}/login")
            page.fill("[name=user]", found[1])
            page.fill("[name=password]", found[2])
            page.click("button[type=submit]")
            page.wait_for_selector("#link:text-is('live')", timeout=180_000)
            page.wait_for_timeout(1000 * AFTER_S)
            for name, size, press in SHOTS:
                page.set_viewport_size(size)
                page.goto(f"http://{LISTEN}/#/{name}")
                if press:
                    page.click(press)
                page.wait_for_timeout(2500)
                page.screenshot(path=HERE / f"console-{name}{'-phone' if size is PHONE else ''}.png")
            browser.close()
    finally:
        demo.terminate()
        demo.wait(60)


if __name__ == "__main__":
    main()
