"""Steps of a case in scratch, resolved by several workers: the numbers of one, to the bit."""

import pickle
from functools import partial

import numpy as np
import pytest

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.errors import CaseError
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.spread import resolved_by_all
from unet_pipeline.storage.store import Store
from unet_pipeline.tasks import ReadCase
from unet_pipeline.volume import statistics
from unet_pipeline.volume.formats.nifti_voxels import encode_volume
from unet_pipeline.volume.header import header_of
from unet_pipeline.volume.monai_steps import CropForeground, ScalePercentiles, Spacing, Standardise
from unet_pipeline.volume.nnunet_steps import CropNonzero, Respace
from unet_pipeline.volume.nnunet_values import Normalise, Scheme
from unet_pipeline.volume.staging import decode
from unet_pipeline.volume.steps import prepare
from unet_pipeline.volume.views import slabs

SHAPE = (34, 27, 40)
AFFINE = np.array([[0, 1.1, 0, -3], [-1.4, 0, 0, 20], [0, 0, 2.0, 5], [0, 0, 0, 1.0]])


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return what reads a case of two channels, within a budget; a slab has two slices."""
    thin = partial(slabs, slab_bytes=2 * 4 * 2 * SHAPE[0] * SHAPE[1])
    monkeypatch.setattr(statistics, "slabs", thin)
    store, urls = Store(), []
    for channel in range(2):
        values = np.random.default_rng(channel).normal(100, 300, SHAPE).astype(np.int16)
        values[:5], values[:, :, -3:] = -20, 0
        urls.append(str(tmp_path / f"{channel}.nii"))
        store.write(urls[-1], encode_volume(values, header_of(SHAPE, AFFINE, values.dtype)))

    with scratch_folder(tmp_path) as scratch:

        def within(budget_bytes: int) -> ReadCase:
            volume = decode(store, urls, budget_bytes=budget_bytes, scratch=str(scratch))
            return ReadCase(volume, None, (), {}, 0)

        yield within


CHAINS = {
    "mean and deviation": [Standardise(channel_wise=True)],
    "mean and deviation of what is not 0": [Standardise(nonzero=True)],
    "percentiles": [ScalePercentiles(1.0, 99.5, 0.0, 1.0, channel_wise=True)],
    "foreground, then percentiles": [CropForeground(), ScalePercentiles(5.0, 95.0, 0.0, 1.0)],
    "other spacing, then mean": [Spacing((1.5, 1.2, 1.7)), Standardise()],
    "nnU-Net": [CropNonzero(), Respace((1.3, 1.3, 1.3), cubic=True)],
}


@pytest.mark.parametrize("chain", [*CHAINS])
def test_several_workers_find_the_numbers_of_one_to_the_bit(read, chain):
    case, steps = read(0), CHAINS[chain]
    assert len(statistics.slabs(case.volume.voxels)) > 10
    expected = prepare(steps, case.volume.voxels, case.volume.header.grid)
    prepared, seconds = resolved_by_all(case, steps, SerialExecutor(workers=2))
    assert pickle.dumps(prepared.steps) == pickle.dumps(expected.steps)
    assert (prepared.native.affine == expected.native.affine).all()
    assert (prepared.model.affine == expected.model.affine).all()
    assert prepared.model.shape == expected.model.shape
    assert seconds > 0


def test_where_one_worker_is_as_good_it_is_left_to_it(read):
    many, one, steps = SerialExecutor(workers=2), SerialExecutor(), [Standardise()]
    assert resolved_by_all(read(10**9), steps, many) is None  # in memory
    assert resolved_by_all(read(0), steps, one) is None
    assert resolved_by_all(read(0), [Spacing((1.0, 1.0, 1.0))], many) is None  # no voxel is needed


def test_what_needs_the_whole_volume_at_once_is_left_to_one_worker(read):
    masked = Normalise((Scheme("ZScoreNormalization", masked=True),) * 2)
    assert resolved_by_all(read(0), [masked], SerialExecutor(workers=2)) is None


def test_a_volume_without_what_a_step_looks_for_is_the_cases_fault(read):
    case = read(0)
    with pytest.raises(CaseError, match="no voxel above 0"):
        resolved_by_all(case, [ScalePercentiles(0, 100, -2, -1), CropForeground()],
                        SerialExecutor(workers=2))  # fmt: skip
