"""A real browser on a real console of a real site of processes; what it says, asks and shows is kept."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from helpers_programs import need_program
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SHOTS = "HEADROOM_SCREENSHOTS"  # a directory; without it none are kept
WAIT_MS = 15_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; it downloads nothing."""
    program = need_program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Eyes:
    """One browser window. `troubles` are console errors and requests to other hosts, apart from those `expected`."""

    def __init__(self, browser: Browser, url: str, size: str = "desktop") -> None:
        self.size, self.url = size, url
        width, height = SIZES[size]
        self.context: BrowserContext = browser.new_context(viewport={"width": width, "height": height})
        self.context.set_default_timeout(WAIT_MS)
        self.page: Page = self.context.new_page()
        self.troubles: list[str] = []
        self.expected = re.compile("(?!)")
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.context.on("request", lambda request: self._asked(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not self.expected.search(message.text):
            self.troubles.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.url).netloc:
            self.troubles.append(f"a request to {url}")

    def sign_in(self, user: str, password: str) -> None:
        """Through the page, until the first picture is there."""
        self.page.goto(self.url)
        self.page.fill("[name=user]", user)
        self.page.fill("[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("#link:text-is('live')")

    def go(self, where: str) -> None:
        """To a page of the console, until it is drawn."""
        self.page.goto(f"{self.url}#/{where}")
        self.page.wait_for_selector("main h1")
        assert self.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, f"{where} is too wide"

    def keep(self, name: str) -> None:
        """A picture of what is shown, where pictures are kept."""
        folder = os.environ.get(SHOTS)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}-{self.size}.png")

    def text(self, selector: str = "main") -> str:
        """What is written there."""
        return self.page.inner_text(selector)
