"""Converted networks that are kept: the same bits as new ones, and never a wrong or damaged one."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import CT, random_bundle

from unet_pipeline.inference import graph_cache
from unet_pipeline.inference.engines import openvino as engine_module
from unet_pipeline.inference.graph_cache import Graph, load_graph, save_graph
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.networks.bundle_writer import write_bundle
from unet_pipeline.networks.family import network_def
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.registry import build_network
from unet_pipeline.storage.store import Store

ROI = (16, 16, 16)
KEY = {"made_from": {"weights": "abc", "shape": [1, 2]}}
GRAPH = Graph(b"<net>\n</net>", bytes(range(256)))
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("UNET_PIPELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    folder = random_bundle(tmp_path_factory.mktemp("bundle"), features=(4, 8), roi_size=ROI)
    bundle = load_bundle(folder, Store())
    return ModelSpec(bundle, Store(), ROI, batch=2, threads=1, device="cpu", engine="openvino")


@pytest.fixture(scope="module")
def converted(spec, tmp_path_factory) -> tuple[bytes, Path]:
    """Scores of the network that was just converted, and what was kept of it."""
    cache = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNET_PIPELINE_CACHE", str(cache))
        return scores(spec), cache / "graphs"


@pytest.fixture
def kept(converted, folder) -> tuple[bytes, Path]:
    """Scores of the converted network, and the file that is kept of it."""
    shutil.copytree(converted[1], folder)  # with times and modes
    (path,) = folder.iterdir()
    return converted[0], path


def scores(spec: ModelSpec) -> bytes:
    batch = torch.randn((spec.batch, 1, *ROI), generator=torch.Generator().manual_seed(0))
    return Predictor(spec).engine(batch).numpy().tobytes()


@pytest.fixture
def no_conversion(monkeypatch) -> None:
    def convert(*_: object) -> None:
        raise AssertionError("it was converted, and not read")

    monkeypatch.setattr(engine_module, "_converted", convert)


def test_what_was_kept_comes_back_to_the_same_question_only():
    assert load_graph(KEY) is None
    save_graph(KEY, GRAPH)
    assert load_graph(KEY) == GRAPH
    assert load_graph({"made_from": {"weights": "abd", "shape": [1, 2]}}) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-7] + bytes([data[-7] ^ 1]) + data[-6:],
        lambda data: data.replace(b"<net>", b"<nit>"),
        lambda data: data.replace(b"abc", b"abd", 1),
        lambda data: b"[]\n" + data,
        lambda data: b'{"question": 1}\n',
        lambda data: os.urandom(300),
    ],
)
def test_a_damaged_or_foreign_file_is_as_none(folder, spoil):
    save_graph(KEY, GRAPH)
    (path,) = folder.iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    assert load_graph(KEY) is None
    save_graph(KEY, GRAPH)
    assert load_graph(KEY) == GRAPH


def test_workers_that_write_at_the_same_time_leave_one_whole_file(folder):
    graphs = [Graph(b"graph", os.urandom(2_000_000)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(save_graph, KEY, graph) for graph in graphs * 5]
        while not all(future.done() for future in writing):
            assert load_graph(KEY) in [None, *graphs]
    assert load_graph(KEY) in graphs
    assert len(list(folder.iterdir())) == 1


def test_those_that_were_not_used_for_longest_go(folder, monkeypatch):
    monkeypatch.setattr(graph_cache, "MOST_BYTES", 3500)
    graph = Graph(b"g", bytes(1000))
    keys = [{"number": number} for number in range(4)]
    for age, key in zip((30, 20, 10), keys[:3], strict=True):
        save_graph(key, graph)
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (1e9 - age, 1e9 - age))
    assert load_graph(keys[0]) == graph  # and so it is the last one that was used
    save_graph(keys[3], graph)
    kept = [load_graph(key) is not None for key in keys]
    assert kept == [True, False, True, True]


def test_where_there_can_be_no_folder_graphs_are_kept_as_long_as_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UNET_PIPELINE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    save_graph(KEY, GRAPH)
    assert load_graph(KEY) == GRAPH
    assert (tmp_path / "file").read_text() == "in the way"


@needs_openvino
def test_a_kept_network_gives_the_bits_of_one_that_was_converted(spec, kept, no_conversion):
    converted, path = kept
    assert path.stat().st_mode & 0o077 == 0  # weights may be nobody else's business
    assert scores(spec) == converted


@needs_openvino
def test_a_damaged_network_is_converted_anew(spec, kept, request):
    converted, path = kept
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert scores(spec) == converted
    request.getfixturevalue("no_conversion")
    assert scores(spec) == converted


@needs_openvino
def test_a_graph_that_openvino_cannot_read_is_converted_anew(spec, kept):
    expected, _ = kept
    key = engine_module._key(spec.made_from)
    save_graph(key, Graph(b"<net>", b""))
    assert scores(spec) == expected
    assert load_graph(key).graph != b"<net>"


SHORT = ({}, {"depth": 1}, {"mirror": (0,)}, {"batch": 1})
LONG = (*SHORT, {"depth": "mean"}, {"mirror": (2,)}, {"roi_size": (16, 16, 32)})


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [SHORT, pytest.param(LONG, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_other_depths_mirrors_and_shapes_are_other_networks(spec, folder, tmp_path, changes):
    made = network_def("unetpp", 1, 3, (4, 4, 8))
    write_bundle(
        str(tmp_path / "nested"),
        Store(),
        network=build_network(made, seed=0),
        network_def=made,
        preprocessing=CT,
        roi_size=ROI,
        overlap=0.5,
        labels={0: "background", 1: "one", 2: "two"},
        channel_names=["image"],
        model_card="Random weights, for tests.",
        licence="Apache-2.0",
        metadata={"task": "test", "description": "random weights"},
    )
    spec = replace(spec, bundle=load_bundle(str(tmp_path / "nested"), Store()))
    variants = [replace(spec, **one) for one in changes]
    eager = [Predictor(replace(variant, engine="eager")) for variant in variants]
    for _ in range(2):  # converted, then read
        for variant, reference in zip(variants, eager, strict=True):
            batch = torch.randn(reference.problem.shape, generator=torch.Generator().manual_seed(1))
            with torch.inference_mode():
                expected = reference.engine(batch).numpy()
            made = Predictor(variant).engine(batch).numpy()
            np.testing.assert_allclose(made, expected, atol=1e-4 * np.ptp(expected))
        assert len(list(folder.iterdir())) == len(variants)


@needs_openvino
def test_a_network_in_memory_is_not_kept(spec, folder):
    network = load_network(spec.bundle, spec.store)
    assert Predictor(spec, network).engine.name == "openvino"
    trusted = replace(spec, bundle=replace(spec.bundle, own_network=True))
    assert Predictor(trusted, network).problem.made_from is None
    assert not folder.exists()
