"""nnU-Net's own predictor on the folder of a model, and ours, for label maps to compare."""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.jobs.segment import open_segment, run_segment

CPU = torch.device("cpu")


def predictor(model: Path, *, mirror: bool = False, folds=None) -> nnUNetPredictor:
    """nnU-Net's own predictor of a folder."""
    made = nnUNetPredictor(0.5, True, mirror, False, CPU, False, False, False)
    made.initialize_from_trained_model_folder(str(model), folds)
    return made


def add_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nnU-Net add scores in float32; its float16 alone decides labels near ties."""
    weights = compute_gaussian.__wrapped__
    monkeypatch.setattr(predict_from_raw_data, "torch", _WithoutHalf())
    monkeypatch.setattr(
        predict_from_raw_data,
        "compute_gaussian",
        lambda *given, **named: weights(*given, dtype=torch.float32, **named),
    )


class _WithoutHalf:
    """torch, but that half precision is single precision."""

    half = torch.float32

    def __getattr__(self, name: str):
        return getattr(torch, name)


def theirs(model: Path, images, output: Path, previous: Path | None = None, **options):
    """The label map that nnU-Net writes; with that of a previous stage, if there is one."""
    made = predictor(model, **options)
    reader = made.plans_manager.image_reader_writer_class()
    values, properties = reader.read_images([str(image) for image in images])
    before = None if previous is None else reader.read_seg(str(previous))[0]
    labels = made.predict_single_npy_array(values, properties, before, None, False)
    reader.write_seg(labels, str(output), properties)
    return np.asanyarray(nib.load(output).dataobj)


def segmented(
    model: str | Path, image: str | Path, output: Path, mirror=None, tile=None, memory_gb=2.0
) -> np.ndarray:
    settings = SegmentSettings(
        images=str(image), model=str(model), output=str(output),
        cluster=ClusterSettings(kind="serial", threads=1),
        windows=WindowSettings(mirror=mirror, tile=tile),
        budget=Budget(memory_gb=memory_gb, scratch=str(output / "scratch")),
    )  # fmt: skip
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.status == "done", record.message
    return np.asanyarray(nib.load(record.output).dataobj)


def dice(found: np.ndarray, wanted: np.ndarray) -> dict[int, float]:
    labels = np.union1d(found, wanted).tolist()
    both = {label: ((found == label).sum() + (wanted == label).sum()) for label in labels}
    return {n: 2 * ((found == n) & (wanted == n)).sum() / both[n] for n in labels}
