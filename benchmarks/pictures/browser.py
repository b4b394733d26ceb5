"""Pictures of pages, by a real browser: the report of a run, and the form of a real server."""

import io
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from browsing import SOFTWARE_GL, browser, log_in
from cohorts import tiny_cohort
from prefect_pages import PrefectPage

from benchmarks.pictures.colours import few_colours
from unet_pipeline.config.allowed import VARIABLE
from unet_pipeline.jobs.up import deploy
from unet_pipeline.local.prefect_server import prefect_server
from unet_pipeline.local.prefect_worker import worker
from unet_pipeline.storage.links import BASE
from unet_pipeline.storage.store import Store

WIDTH = 1280


def page_of(file: Path, height: int, anchor: str = "") -> bytes:
    """Return the top of a page that lies on this machine, or what follows an anchor, as PNG."""
    with browser() as chromium:
        page = chromium.new_page(
            viewport={"width": WIDTH, "height": height}, reduced_motion="reduce"
        )
        page.goto(f"{file.as_uri()}#{anchor}")
        return bytes(page.screenshot())


def viewer(output: Path, keys: str = "") -> bytes:
    """Return the viewer's page with the case that most wants a look, after some keys."""
    command = [sys.executable, "-m", "unet_pipeline", "view", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            addresses = (re.search(r"http://\S+", line) for line in process.stdout or ())
            address = next(found[0] for found in addresses if found)
            with browser(*SOFTWARE_GL) as chromium:
                page = chromium.new_page(
                    viewport={"width": WIDTH, "height": 800}, color_scheme="dark"
                )
                page.goto(address)
                page.wait_for_selector("body[data-shown]", timeout=180_000)
                for key in keys:
                    page.keyboard.press(key)
                page.wait_for_timeout(2000)  # of moving parts
                return bytes(page.screenshot())
        finally:
            process.send_signal(signal.SIGINT)


def pages(work: Path) -> Mapping[str, bytes]:
    """Return a run on its page while it goes, and at its end; and how the newer page cancels one.

    By the steps of ``tests/flows/test_start_from_the_page.py``.
    """
    small = tiny_cohort(Store(), str(work / "scans"), 12)
    shots: dict[str, bytes] = {}
    told = {VARIABLE["prefix"]: str(work), BASE: f"{work}=https://files.example.org"}
    with (
        prefect_server(work / "prefect", port=0) as server,
        worker(server, env=told),
        browser() as chromium,
    ):
        deploy(server, {"UNET_PIPELINE_TIMEZONE": "Europe/Berlin"})
        deployment = server.api("/deployments/name/segment/on-demand")["id"]

        def begun(newer: bool, output: str) -> PrefectPage:
            size = {"width": WIDTH, "height": 900}
            page = chromium.new_context(viewport=size).new_page()

            def look(name: str) -> None:
                page.wait_for_timeout(1000)  # of moving parts
                shots[name] = few_colours(Image.open(io.BytesIO(page.screenshot())))

            user = PrefectPage(page, f"{server.url}{'/v2' if newer else ''}", newer, look)
            user.log_in(server.password.text)
            texts = (small.images, "phantom", str(work / output), small.masks)
            user.open_run(user.start(deployment, texts)["id"])
            user.wait_for_progress()
            return user

        user = begun(newer=False, output="results")
        user.wait_for("CompletedWithFaults")
        user.page.reload()
        user.show_artifacts()
        user.look("artifacts")
        begun(newer=True, output="others").cancel()
    return {f"run-{name}.png": shots[name] for name in ("progress", "artifacts", "cancel")}


def form(work: Path) -> Mapping[str, bytes]:
    """Return the form from which a run of ``segment`` is started."""
    with prefect_server(work / "prefect", port=0) as server, worker(server):
        deploy(server, {"UNET_PIPELINE_TIMEZONE": "Europe/Berlin"})
        deployment = server.api("/deployments/name/segment/on-demand")
        with browser() as chromium:
            page = chromium.new_page(viewport={"width": WIDTH, "height": 786})
            log_in(page, server)
            page.goto(f"{server.url}/deployments/deployment/{deployment['id']}/run")
            page.get_by_text("Prefix that label maps").first.wait_for(timeout=60_000)
            page.wait_for_timeout(1000)  # of moving parts
            shot = page.screenshot()
    return {"form.png": few_colours(Image.open(io.BytesIO(shot)))}
