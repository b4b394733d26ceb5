"""A proxy before the S3 server, with short waits; and a count of what the network is asked for."""

import pytest
from faulty_s3 import faulty_s3

from unet_pipeline import pipeline
from unet_pipeline.storage import outage


@pytest.fixture
def proxy(s3_env, monkeypatch):
    with faulty_s3(s3_env.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setattr(outage, "WAITS_SECONDS", (0.05, 0.05))
        monkeypatch.setattr(outage, "UPLOAD_WAITS_SECONDS", (0.05,) * 4)
        monkeypatch.setattr("unet_pipeline.jobs.segment.FIRST_PAUSE_SECONDS", 0.05)
        yield proxy


@pytest.fixture
def inferences(monkeypatch):
    """Count how often the network is asked for the labels of a case."""
    calls, act = [], pipeline.label_tile

    def counted(*arguments):
        calls.append(arguments)
        return act(*arguments)

    monkeypatch.setattr(pipeline, "label_tile", counted)
    return calls
