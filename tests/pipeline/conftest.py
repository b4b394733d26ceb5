"""A proxy before the S3 server, with short waits, for what a run does when the store fails."""

import pytest
from faulty_s3 import faulty_s3

from unet_pipeline.storage import outage


@pytest.fixture
def proxy(s3_env, monkeypatch):
    with faulty_s3(s3_env.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setattr(outage, "WAITS_SECONDS", (0.05, 0.05))
        monkeypatch.setattr(outage, "UPLOAD_WAITS_SECONDS", (0.05,) * 4)
        monkeypatch.setattr("unet_pipeline.jobs.segment.FIRST_PAUSE_SECONDS", 0.05)
        yield proxy
