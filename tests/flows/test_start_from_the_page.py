"""A user on both of Prefect's pages: starts runs, watches, cancels, opens the report."""

import json

import pytest
from browsing import BROWSER, browser
from cohorts import write_tiny
from flow_runs import deployment, wait_for_run
from prefect_pages import PrefectPage

from unet_pipeline.storage.store import Store, join

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine"),
]
LONG = pytest.mark.soak  # in `make test` one run on one page, for each takes half a minute


@pytest.fixture
def user(request, deployed):
    """A user who has logged in, at the classic page or at the newer one."""
    newer = request.param == "newer"
    with browser() as chromium:
        page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        found = PrefectPage(page, f"{deployed.url}{'/v2' if newer else ''}", newer)
        found.log_in(deployed.password.text)
        yield found


def start(user, server, *texts):
    return user.start(deployment(server, "on-demand")["id"], texts)


@pytest.mark.parametrize("user", ["classic", pytest.param("newer", marks=LONG)], indirect=True)
def test_a_run_from_the_form_is_watched_to_its_report_and_the_quarantined_case(
    user, deployed, cohort
):
    bucket, small = cohort
    run = start(user, deployed, small.images, "phantom", join(bucket, "out"), small.masks)
    assert run["parameters"]["settings"]["model"] == "phantom"
    user.open_run(run["id"])
    user.wait_for_progress()
    user.wait_for("CompletedWithFaults")
    user.page.reload()
    user.show_artifacts()
    report = user.open_report("Report of the run")
    assert report.url.startswith("http://127.0.0.1:")  # signed: the browser has no keys
    report.get_by_role("link", name="Quarantined").click()
    quarantined = report.get_by_role("region", name="Quarantined")
    assert small.cut_short in quarantined.inner_text()
    assert "Replace the file by a sound copy" in quarantined.inner_text()


@LONG
@pytest.mark.parametrize("user", ["classic", "newer"], indirect=True)
def test_a_run_is_cancelled_on_its_page_and_leaves_its_report(user, deployed, s3_env):
    bucket = s3_env.bucket("cancelled-on-the-page")
    write_tiny(Store(), join(bucket, "scans"), 30)
    out = join(bucket, "out")
    run = start(user, deployed, join(bucket, "scans/images"), "phantom", out, "")
    user.open_run(run["id"])
    user.wait_for_progress()
    user.cancel()
    user.wait_for("Cancelled")
    assert wait_for_run(deployed, run)["state_type"] == "CANCELLED"
    logs = deployed.api("/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert any("SIGTERM" in line["message"] and "report.html" in line["message"] for line in logs)
    (said,) = [url for url in Store().list_files(join(out, "runs")) if url.endswith("/run.json")]
    assert "SIGTERM" in json.loads(Store().read(said))["stopped"]
