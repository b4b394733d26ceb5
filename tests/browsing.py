"""A real browser, and how a user logs in with it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unet_pipeline.local.prefect_server import PrefectServer

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET_BROWSER = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextmanager
def browser(*options: str) -> Iterator[Any]:
    """A fresh Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=BROWSER, args=[*QUIET_BROWSER, *options])
        try:
            yield chromium
        finally:
            chromium.close()


def log_in(page: Any, server: PrefectServer) -> None:
    """Give Prefect's page the password that it asks for."""
    page.goto(f"{server.url}/dashboard")
    page.locator("input[type=password]").fill(server.password.text)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login" not in url, timeout=60_000)
    page.get_by_text("Work Pools").first.wait_for(timeout=60_000)
