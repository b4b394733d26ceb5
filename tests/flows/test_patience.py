"""A scheduled run waits for a store that does not answer yet; one started by hand does not."""

import pytest
from prefect.states import Completed

from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline_flows import lifecycle

SETTINGS = SegmentSettings(images="s3://scans/t1", model="hippocampus", output="s3://out")


@pytest.fixture
def begun(monkeypatch):
    """Return what notes each beginning; three waits are known, and none takes long."""
    monkeypatch.setattr(lifecycle, "WAITS_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(lifecycle, "get_run_logger", lambda: lifecycle.logging.getLogger("run"))
    return []


def work_after(times: int, begun: list[str], code: str = "endpoint_unreachable"):
    """Return work whose store answers after so many beginnings."""

    def work(settings):
        begun.append(settings.images)
        if len(begun) <= times:
            raise RequestError(code, found="no answer", wanted="one", remedy="Try again")
        return Completed()

    return work


def test_a_night_begins_when_the_store_is_back(begun, monkeypatch):
    monkeypatch.setattr(lifecycle, "_is_scheduled", lambda: True)
    assert lifecycle.patiently(work_after(2, begun), SETTINGS).is_completed()
    assert len(begun) == 3


def test_in_the_end_the_fault_is_said(begun, monkeypatch):
    monkeypatch.setattr(lifecycle, "_is_scheduled", lambda: True)
    with pytest.raises(RequestError, match="no answer"):
        lifecycle.patiently(work_after(9, begun), SETTINGS)
    assert len(begun) == 4


@pytest.mark.parametrize(
    ("scheduled", "code"), [(False, "endpoint_unreachable"), (True, "bucket_missing")]
)
def test_what_does_not_pass_or_is_waited_for_by_somebody_is_said_at_once(
    begun, monkeypatch, scheduled, code
):
    monkeypatch.setattr(lifecycle, "_is_scheduled", lambda: scheduled)
    with pytest.raises(RequestError, match="no answer"):
        lifecycle.patiently(work_after(1, begun, code), SETTINGS)
    assert len(begun) == 1


def test_outside_of_a_flow_run_nothing_is_scheduled():
    assert not lifecycle._is_scheduled()
