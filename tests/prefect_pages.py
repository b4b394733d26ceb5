"""What a user does on Prefect's pages, the classic one and the newer: form, progress, cancel."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import TimeoutError as PlaywrightTimeout

WAIT = 90_000  # milliseconds
TRIES = 30
Look = Callable[[str], None]


def unseen(_name: str) -> None:
    """Make no picture."""


@dataclass(frozen=True)
class PrefectPage:
    """One of the two pages of a Prefect server, in a browser.

    Attributes
    ----------
    root
        Address of the page.
    newer
        Whether it is the newer one, which lies at ``/v2``.
    look
        Called with the name of what is to be seen at that moment.
    """

    page: Any
    root: str
    newer: bool
    look: Look = unseen

    def log_in(self, password: str) -> None:
        """Give the password that the page asks for."""
        self.page.goto(f"{self.root}/dashboard")
        self.page.locator("input[type=password]").first.fill(password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "/login" not in url, timeout=WAIT)
        self.page.get_by_text("Work Pools").first.wait_for(timeout=WAIT)

    def start(self, deployment: str, texts: Sequence[str]) -> Any:
        """Fill in the first fields of a run form, and return the run that it starts.

        Parameters
        ----------
        texts
            Images, model, output and masks.
        """
        self.page.goto(f"{self.root}/deployments/deployment/{deployment}/run")
        self.page.get_by_text("Saved settings").first.wait_for(timeout=WAIT)
        for place, text in enumerate(texts):
            self.page.locator("textarea").nth(place).fill(text)
        self.page.wait_for_timeout(300)  # what is typed is taken after a moment
        self.look("form")
        with self.page.expect_response("**/create_flow_run", timeout=WAIT) as answer:
            self.page.get_by_role("button", name="Submit").click()
        assert answer.value.status == 201, answer.value.text()
        return answer.value.json()

    def open_run(self, run: str) -> None:
        """Open the page of a run."""
        self.page.goto(f"{self.root}/runs/flow-run/{run}")

    def wait_for(self, state: str) -> None:
        """Wait until the page of a run says by itself that it came to a state."""
        self.page.get_by_text(state, exact=True).first.wait_for(timeout=WAIT)

    def show_artifacts(self) -> None:
        """Show what the run shows."""
        self.page.get_by_text("Artifacts", exact=True).last.click(timeout=WAIT)

    def wait_for_progress(self) -> None:
        """Look again until the bar says how many cases are done: the list is not a live one."""
        said = self.page.get_by_text(re.compile(r"\d+ of \d+ cases")).first
        for _ in range(TRIES):
            self.show_artifacts()
            with suppress(PlaywrightTimeout):
                said.wait_for(timeout=WAIT / TRIES)
                break
            self.page.reload()
        self.look("progress")

    def cancel(self) -> None:
        """Cancel the run whose page is open."""
        if self.newer:
            self.page.get_by_role("button", name="Open menu").last.click()
            self.page.get_by_role("menuitem", name="Cancel").click()
            self.look("cancel")
            self.page.get_by_role("button", name="Cancel Flow Run").click()
        else:
            self.page.get_by_role("button", name="Cancel").first.click()
            self.look("cancel")
            self.page.get_by_role("button", name="Confirm").or_(
                self.page.get_by_role("dialog").get_by_role("button", name="Cancel")
            ).first.click()

    def open_report(self, text: str) -> Any:
        """Follow the link of an artifact, and return the page that it leads to."""
        self.look("artifacts")
        link = self.page.locator("a[href^=http]").filter(has_text=text).first
        link.wait_for(timeout=WAIT)
        address = link.get_attribute("href")
        other = self.page.context.new_page()
        other.goto(address)
        return other
