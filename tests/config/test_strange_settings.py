"""Settings of a flow and site files come from forms and editors: any value is said to be wrong."""

from contextlib import suppress

import pytest
import yaml
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import places, planted
from pydantic import ValidationError

from unet_pipeline.cluster.places.kubernetes import cluster_manifest
from unet_pipeline.cluster.places.slurm import SlurmSite, job_options
from unet_pipeline.config import (
    CheckSettings,
    ClusterSettings,
    CompareSettings,
    DepthsSettings,
    LayersSettings,
    SegmentSettings,
    TrainSettings,
)
from unet_pipeline.config.allowed import Allowed
from unet_pipeline.config.options import settings_in
from unet_pipeline.config.permission import check_allowed
from unet_pipeline.config.sites import read_site
from unet_pipeline.config.sources import Sources
from unet_pipeline.errors import RequestError

PLACES = {"images": "s3://scans/a", "masks": "s3://scans/m", "output": "s3://results/o"}
SOUND = [
    SegmentSettings(**PLACES, model="phantom"),
    CheckSettings(**PLACES),
    DepthsSettings(**PLACES, model="phantom"),
    CompareSettings(**PLACES, models=("phantom", "other")),
    LayersSettings(**PLACES, model="phantom"),
    TrainSettings(**PLACES, classes=3),
]
SITES = {
    "slurm": {"partition": "gpu", "time_minutes": 60, "gpus": 1, "cores": 8, "memory_gb": 32,
              "directives": ["--exclusive"], "prologue": ["module load cuda"], "logs": "/logs",
              "scratch": "/scratch", "interface": "ib0", "python": "python"},
    "kubernetes": {
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "metadata": {"name": "a"},
        "spec": {"scheduler": {"spec": {"containers": [{"name": "s", "image": "x"}]},
                               "service": {"selector": {}, "ports": [{"name": "tcp"}]}},
                 "worker": {"replicas": 1, "spec": {"containers": [
                     {"name": "w", "image": "x", "args": ["dask", "worker"],
                      "resources": {"limits": {"nvidia.com/gpu": 1}}}]}}}},
}  # fmt: skip
STRANGE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=8)
    | st.sampled_from([float("nan"), float("inf"), -1, 0, 1e300, "", " ", "\x1b[2J", "a\nb",
                       "s3://", "://", "file:///etc", "tcp://", "s3://u:p@b/x", "[", "\ud800",
                       "nan=x", 10**400]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize("sound", SOUND, ids=lambda one: type(one).__name__)
@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_in_a_form_is_taken_or_refused_by_name(sound, data):
    content = sound.model_dump(mode="json")
    at = data.draw(st.sampled_from([place for place in places(content) if place]))
    with suppress(ValidationError, RequestError):
        taken = type(sound).model_validate(planted(content, at, data.draw(STRANGE)))
        taken.model_dump_json()
        check_allowed(taken, Allowed(prefixes=("s3://scans", "s3://results")))
        if hasattr(taken, "cluster"):
            taken.cluster.spec()


@pytest.mark.parametrize("field", ["site", "tls"])
def test_a_text_that_json_cannot_hold_is_refused(field):
    with pytest.raises(ValidationError):
        ClusterSettings(**{"kind": "slurm", field: "\ud800"})


@settings(max_examples=examples(1500), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_in_a_site_file_is_taken_or_refused_by_name(tmp_path_factory, data):
    kind = data.draw(st.sampled_from([*SITES]))
    at = data.draw(st.sampled_from(list(places(SITES[kind]))))
    file = tmp_path_factory.getbasetemp() / "site.yaml"
    try:
        text = yaml.safe_dump(planted(SITES[kind], at, data.draw(STRANGE)))
        file.write_text(text)
    except (UnicodeEncodeError, ValueError):  # no text; more digits than Python writes
        return
    with suppress(RequestError):
        site = read_site(kind, str(file))
        if isinstance(site, SlurmSite):
            job_options(site, 1)
        else:
            cluster_manifest(site, workers=1, threads=1)


def filled_from(file):
    """The settings of segment that a file says."""
    sources = Sources(("segment",), settings_in(SegmentSettings))
    sources.take_file(str(file))
    return sources.filled(SegmentSettings)


@settings(max_examples=examples(300), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_in_a_settings_file_is_taken_or_refused_by_name(tmp_path_factory, data):
    content = SOUND[0].model_dump(mode="json")
    at = data.draw(st.sampled_from(list(places(content))))
    file = tmp_path_factory.getbasetemp() / "run.yaml"
    try:
        file.write_text(yaml.safe_dump(planted(content, at, data.draw(STRANGE))))
    except (UnicodeEncodeError, ValueError):  # no text; more digits than Python writes
        return
    with suppress(RequestError):
        filled_from(file)


@pytest.mark.parametrize("text", ["a: &a {cluster: *a}", "cluster: &a {kind: [*a]}", "1: 2",
                                  "? {a: b}\n: c", "budget: {memory_gb: !!python/object:os.x {}}",
                                  "images: \x00", "[" * 3000])  # fmt: skip
def test_a_settings_file_that_is_none_is_refused_by_name(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(RequestError) as caught:
        filled_from(tmp_path / "run.yaml")
    assert caught.value.code in {"setting_unknown", "settings_unreadable", "setting_invalid"}


@pytest.mark.parametrize(
    "text",
    ["[" * 3000, "a: " + "1" * 5000, "a: 2026-99-99", "- &a [*a]", "a: \x00", "? {a: b}\n: c",
     "!!python/object/apply:os.system [x]", "<<: 5", "time_minutes: .nan",
     "time_minutes: .inf", "time_minutes: -5", "cores: 0", "memory_gb: -1", "gpus: 2",
     "cores: 'x\x1b[2J'", f"gpus: 1{'0' * 400}"],
)  # fmt: skip
def test_a_site_file_that_is_none_is_refused_by_name(tmp_path, text):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(RequestError) as caught:
        read_site("slurm", str(tmp_path / "site.yaml"))
    assert caught.value.code in {"site_unreadable", "site_invalid"}
    assert "\x1b" not in str(caught.value)
