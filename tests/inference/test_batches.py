"""Calls that wait for one device fill each other's batches, and stay out of each other's way.

While the first batch runs, the tests here wait until the other calls stand in the queue.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import perf_counter

import numpy as np
import pytest
from bundles import random_bundle

from unet_pipeline.config import ClusterSettings
from unet_pipeline.errors import CaseError
from unet_pipeline.inference.batches import BatchQueue, BatchSlot, Call
from unet_pipeline.inference.predictor import Predictor
from unet_pipeline.inference.spec import ModelSpec
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store
from unet_pipeline.tiling.box import Box, Index3

ROI = (16, 16, 16)


class Device:
    """Notes its batches, windows being letters; the first one runs until ``goes_on`` is set."""

    def __init__(self, size: int) -> None:
        self.queue = BatchQueue(size, self.run)
        self.batches: list[str] = []
        self.runs, self.goes_on = Event(), Event()

    def run(self, slots: Sequence[BatchSlot]) -> None:
        self.batches.append("".join(call.windows[index] for call, index in slots))
        self.runs.set()
        assert self.goes_on.wait(60)
        if "!" in self.batches[-1]:
            raise RuntimeError("the device has failed")
        for call, index in slots:
            try:
                call.receive(index, call.windows[index])
            except ValueError as error:
                call.error = error


def take(index: int, window: str) -> None:
    if window == "?":
        raise ValueError("a window at fault")


def serve(device: Device, names: Sequence[str]) -> list[BaseException | None]:
    """Serve calls that arrive in this order while the first batch runs; return their errors."""
    with ThreadPoolExecutor(len(names)) as pool:
        futures = []
        for place, name in enumerate(names):
            futures.append(pool.submit(device.queue.serve, Call(name, take)))
            assert device.runs.wait(60)
            while len(device.queue._waiting) <= place:
                Event().wait(0.001)
        device.goes_on.set()
        return [future.exception(60) for future in futures]


def test_a_batch_is_filled_from_the_calls_behind():
    device = Device(size=4)
    assert serve(device, ["aaaaaa", "bbbbb", "cc"]) == [None, None, None]
    assert device.batches == ["aaaa", "aabb", "bbbc", "c"]


def test_nobody_waits_for_windows_to_come():
    device = Device(size=4)
    device.goes_on.set()
    device.queue.serve(Call("abc", take))
    device.queue.serve(Call("", take))
    assert device.batches == ["abc"]


def test_a_batch_of_one_window_is_of_one_call_at_a_time():
    device = Device(size=1)
    serve(device, ["aa", "bb"])
    assert device.batches == ["a", "a", "b", "b"]


def test_a_window_at_fault_ends_its_own_call_and_no_other():
    device = Device(size=4)
    first, second, third = serve(device, ["aaaaa", "b?bbbbbb", "ccc"])
    assert (first, str(second), third) == (None, "a window at fault", None)
    assert device.batches == ["aaaa", "ab?b", "ccc"]  # what is left of b is not run


def test_a_batch_that_fails_ends_its_calls_and_the_device_goes_on():
    device = Device(size=2)
    errors = serve(device, ["aaa", "!", "cc"])
    assert list(map(str, errors)) == ["the device has failed"] * 2 + ["None"]
    assert device.batches == ["aa", "a!", "cc"]
    device.queue.serve(Call("d", take))
    assert device.batches[-1] == "d"


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    folder = random_bundle(tmp_path_factory.mktemp("bundle"), features=(4, 8), roi_size=ROI)
    return ModelSpec(load_bundle(folder, Store()), Store(), ROI, batch=4, threads=1)


def image_of(seed: int) -> tuple[np.ndarray, Box, list[Index3]]:
    """A volume of noise of 1 to 5 windows; every seventh holds one voxel that is no number."""
    read_box = Box.whole((16 + 8 * (seed % 5), 16, 16))
    values = np.random.default_rng(seed).random((1, *read_box.shape), dtype=np.float32)
    if seed % 7 == 6:
        values[0, -1, 5, 5] = np.nan
    return values, read_box, [(8 * i, 0, 0) for i in range(1 + seed % 5)]


def sums_of(predictor: Predictor, seed: int) -> bytes | str:
    try:
        return predictor.score(*image_of(seed)).sums_CXYZ.tobytes()
    except CaseError as error:
        return error.code


def test_who_shares_the_batch_changes_no_bit(spec):
    """28 volumes one after the other, and from 6 threads; four of them are at fault."""
    alone, predictor = Predictor(spec), Predictor(spec)
    expected = [sums_of(alone, seed) for seed in range(28)]
    queue, run, shared = predictor._queue, predictor._queue._run, []

    def run_with_company(slots: Sequence[BatchSlot]) -> None:
        while not shared and len(queue._waiting) < 6:
            Event().wait(0.001)
        shared.append(len({id(call) for call, _ in slots}) > 1)
        run(slots)

    queue._run = run_with_company
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda seed: sums_of(predictor, seed), range(28)))
    assert found == expected
    assert found.count("scores_not_finite") == 4
    assert sum(shared) > 1


def test_the_time_of_a_shared_batch_is_shared(spec):
    predictor = Predictor(spec)
    begin = perf_counter()
    with ThreadPoolExecutor(4) as pool:
        scored = list(pool.map(lambda seed: predictor.score(*image_of(seed)), range(6)))
    wall = perf_counter() - begin
    assert 0 < sum(one.stats.seconds["forward"] for one in scored) <= wall


def test_a_worker_has_as_many_cases_as_can_fill_a_batch_and_one_more():
    threads = [ClusterSettings().spec(batch).calls_at_once for batch in (1, 2, 4, 64)]
    assert threads == [2, 3, 5, 5]
