"""The choice of an engine: the fastest that passes, and what is kept of it."""

import json
import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from bundles import random_bundle

from unet_pipeline.caches import cache_folder
from unet_pipeline.errors import RequestError
from unet_pipeline.inference.choice import choose, fastest
from unet_pipeline.inference.engine_choice import Agreement, EngineChoice
from unet_pipeline.inference.measurements import Measurements, load_measurements, save_measurements
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store

ROI = (16, 16, 16)
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    folder = random_bundle(tmp_path_factory.mktemp("bundle"), features=(4, 8), roi_size=ROI)
    return ModelSpec(load_bundle(folder, Store()), Store(), ROI, batch=2, threads=1, device="cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("UNET_PIPELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(cache: Path) -> list[Path]:
    return sorted((cache / "engines").iterdir())


def test_the_fastest_is_taken_and_eager_where_little_is_gained():
    assert fastest({"eager": 1.0, "openvino": 0.4, "compiled": 0.8}) == "openvino"
    assert fastest({"eager": 1.0, "openvino": 1.5}) == "eager"
    assert fastest({"eager": 1.0, "openvino": 0.97}) == "eager"
    assert fastest({"eager": 1.0}) == "eager"
    assert fastest({}) == "eager"


def test_eager_is_used_without_a_measurement(spec, cache):
    assert choose(spec, "eager") == EngineChoice("eager", "eager")
    assert not cache.exists()


@needs_openvino
def test_auto_measures_once_and_remembers(spec, cache):
    first = choose(spec, "auto")
    (kept,) = files(cache)
    assert set(first.seconds_per_window) == {"eager", "openvino"}
    assert first.engine == fastest(first.seconds_per_window)
    stamp = kept.stat().st_mtime_ns
    assert choose(spec, "auto") == first  # the same seconds, to the last digit
    assert kept.stat().st_mtime_ns == stamp
    assert len(files(cache)) == 1


@needs_openvino
def test_an_answer_to_another_question_is_not_used(spec, cache):
    choose(spec, "openvino")
    choose(replace(spec, batch=1), "openvino")
    choose(replace(spec, threads=2), "openvino")
    assert len(files(cache)) == 3


@needs_openvino
def test_what_was_measured_decides(spec, cache):
    """The file is changed by hand: the choice follows it, so it was read and not measured."""
    choose(spec, "auto")
    (kept,) = files(cache)
    answer = json.loads(kept.read_text())
    for faster, slower in (("eager", "openvino"), ("openvino", "eager")):
        answer["seconds"] = {faster: 0.5, slower: 1.0}
        kept.write_text(json.dumps(answer))
        choice = choose(spec, "auto")
        assert choice.engine == faster
        assert (choice.agreement is None) == (faster == "eager")


@needs_openvino
def test_an_engine_that_differs_is_refused_by_name_and_left_out_by_auto(spec, cache, caplog):
    choose(spec, "openvino")
    (kept,) = files(cache)
    answer = json.loads(kept.read_text())
    answer["agreements"]["openvino"] |= {"differing": 7, "decided": 7, "largest_margin": 0.5}
    kept.write_text(json.dumps(answer))
    with pytest.raises(RequestError) as caught:
        choose(spec, "openvino")
    assert caught.value.code == "engine_differs"
    with caplog.at_level(logging.WARNING):
        choice = choose(spec, "auto")
    assert choice.engine != "openvino"
    assert "engine_differs: 7 of" in choice.left_out["openvino"]
    assert "openvino is left out" in caplog.text


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b'{"question": 1}'])
def test_a_spoilt_file_is_as_none(spec, spoilt):
    key = {"machine": "x"}
    known = Measurements({"eager": 1.0}, {"openvino": Agreement(8, 0, 0, 0.0, 1e-3, 1e-6)})
    save_measurements(key, known)
    assert load_measurements(key) == known
    (kept,) = files(cache_folder())
    kept.write_bytes(spoilt)
    assert load_measurements(key) == Measurements()
    save_measurements(key, known)
    assert load_measurements(key) == known


def test_where_there_can_be_no_folder_it_is_kept_as_long_as_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UNET_PIPELINE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    save_measurements({"machine": str(tmp_path)}, Measurements({"eager": 1.0}))
    assert load_measurements({"machine": str(tmp_path)}) == Measurements({"eager": 1.0})
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("UNET_PIPELINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "unet_pipeline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "unet_pipeline"
