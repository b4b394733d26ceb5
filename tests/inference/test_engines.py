"""Engines give eager's scores, the same bits in every place of a batch, or say why they cannot."""

import hashlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unet_pipeline.errors import RequestError
from unet_pipeline.inference.engines import Engine, Problem, make_engine
from unet_pipeline.inference.engines.protocol import DeepestHead
from unet_pipeline.networks.adaptive import AdaptiveDepth
from unet_pipeline.networks.family import network_def
from unet_pipeline.networks.mirroring import Mirrored
from unet_pipeline.networks.pruning import MeanOfHeads, prune
from unet_pipeline.networks.registry import build_network
from unet_pipeline.networks.slices import SliceNetwork

HERE = Path(__file__).parent
CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")


def unetpp() -> nn.Module:
    return build_network(network_def("unetpp", 1, 3, (4, 4, 8)), seed=0).eval()


def plane_network() -> nn.Module:
    made = {
        "_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3,
        "channels": (4, 8), "strides": (2,),
    }  # fmt: skip
    return SliceNetwork(build_network(made, seed=0), axis=2).eval()


NETWORKS = {
    "unet": lambda: build_network(network_def("unet", 1, 3, (4, 8)), seed=0).eval(),
    "pruned": lambda: prune(unetpp(), 1),
    "mean of heads": lambda: MeanOfHeads(unetpp()),
    "mirrored": lambda: Mirrored(NETWORKS["unet"](), (0, 2)),
}


def problem(network: nn.Module, batch: int = 2, depth: int = 16) -> Problem:
    return Problem(network.eval(), (batch, 1, 16, 16, depth), CPU, threads=1)


def batch_of(size: int = 2, depth: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn((size, 1, 16, 16, depth), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def nested() -> Engine:
    """A nested network of all heads in OpenVINO, which takes seconds to convert."""
    return make_engine("openvino", problem(unetpp(), batch=3))


def said_by(program: str) -> str:
    """Run lines in a process of its own, in which this file is ``t``; return what they print."""
    text = "import sys, test_engines as t\n" + program
    run = subprocess.run(
        [sys.executable, "-c", text], cwd=HERE, capture_output=True, text=True, check=True
    )
    return run.stdout


@needs_openvino
@pytest.mark.parametrize("name", NETWORKS)
def test_openvino_gives_the_scores_of_eager(name):
    network = NETWORKS[name]()
    with torch.inference_mode():
        expected = DeepestHead(network)(batch_of()).numpy()
        found = make_engine("openvino", problem(network))(batch_of()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


@needs_openvino
def test_openvino_gives_the_scores_of_the_deepest_of_all_heads(nested):
    batch = batch_of(3)
    with torch.inference_mode():
        expected = DeepestHead(unetpp())(batch).numpy()
    np.testing.assert_allclose(nested(batch).numpy(), expected, atol=1e-4 * np.ptp(expected))


@needs_openvino
def test_openvino_takes_networks_of_slices():
    network = plane_network()
    with torch.inference_mode():
        expected = network(batch_of(depth=1)).numpy()
        found = make_engine("openvino", problem(network, depth=1))(batch_of(depth=1)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


@needs_openvino
def test_openvino_gives_a_window_the_same_bits_beside_any_neighbour(nested):
    window, *others = batch_of(5)
    expected = nested(torch.stack([window, *others[:2]])).numpy()[0].copy()
    for place in range(3):
        batch = torch.stack(others[:3])
        batch[place] = window
        assert nested(batch).numpy()[place].tobytes() == expected.tobytes()


@pytest.fixture(scope="module")
def another_process() -> list[str]:
    """What a process with OpenVINO says: the digest of scores, and what its telemetry is."""
    program = (
        "engine = t.make_engine('openvino', t.problem(t.unetpp(), batch=3))\n"
        "print(t.digest_of_scores(engine))\n"
        "import openvino.tools.ovc.utils as utils\n"
        "print(utils.tm.__name__, sys.modules['openvino_telemetry'])"
    )
    return said_by(program).split()


def digest_of_scores(engine: Engine) -> str:
    return hashlib.sha256(engine(batch_of(3)).numpy().tobytes()).hexdigest()


@needs_openvino
def test_openvino_gives_the_same_bits_in_another_process(another_process, nested):
    assert another_process[0] == digest_of_scores(nested)


@needs_openvino
def test_openvino_is_imported_without_its_telemetry(another_process):
    assert another_process[1:] == ["openvino.tools.ovc.telemetry_stub", "None"]


@needs_openvino
def test_a_course_that_depends_on_the_data_is_not_converted():
    with pytest.raises(RequestError) as caught:
        make_engine("openvino", problem(AdaptiveDepth(unetpp(), limit=0.1)))
    assert caught.value.code == "engine_unsupported"


@pytest.mark.slow
def test_compiled_gives_the_scores_of_eager():
    network = NETWORKS["unet"]()
    with torch.inference_mode():
        expected = network(batch_of()).numpy()
        found = make_engine("compiled", problem(network))(batch_of()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


def test_compiled_wants_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RequestError) as caught:
        make_engine("compiled", problem(NETWORKS["unet"]()))
    assert caught.value.code == "engine_unsupported"
    assert "no-such-compiler" in caught.value.found


def test_tensorrt_is_for_cuda():
    with pytest.raises(RequestError) as caught:
        make_engine("tensorrt", problem(NETWORKS["unet"]()))
    assert caught.value.code == "engine_unsupported"
    assert "cuda" in caught.value.found


def test_openvino_that_is_not_installed_is_named(monkeypatch):
    """Where it cannot be imported, as without the package."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RequestError) as caught:
        make_engine("openvino", problem(NETWORKS["unet"]()))
    assert caught.value.code == "engine_missing"
    assert "unet-pipeline[openvino]" in str(caught.value)
