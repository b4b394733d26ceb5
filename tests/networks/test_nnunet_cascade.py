"""nnU-Net's cascades: the oracle is its own predictor, run on one stage and then on the other."""

import json
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nnunet_models import CASCADE, LOWRES, read_model, teach, write_cascade, write_model
    from nnunet_oracle import add_in_float32, dice, predictor, segmented, theirs

from unet_pipeline.cluster.executor import Executor, SerialExecutor
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import open_executor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.ensembles import open_first
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.plan import close_plan, open_plan, run_plan
from unet_pipeline.jobs.segment import close_models, open_segment, run_segment
from unet_pipeline.layer_analysis.request import open_inspected
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.opening import open_model
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import keep_labels
from unet_pipeline.volume.first_stage import with_labels
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.staging import decode, stage
from unet_pipeline.volume.views import materialised

IMAGE = "hippocampus/images/hippocampus_001.nii.gz"
MASK = "hippocampus/labels/hippocampus_001.nii.gz"
BY_TORCH = {"resampling_fn_seg": "resample_torch_fornnunet",
            "resampling_fn_seg_kwargs": {"is_seg": True, "force_separate_z": None}}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def first_of(model: Path) -> Path:
    return model.parent / model.name.replace(CASCADE, LOWRES)


def both_stages(model: Path, image: Path, output: Path, **options) -> np.ndarray:
    """The label map that nnU-Net's second stage writes, with the one that its first has written."""
    theirs(first_of(model), [image], output / "first.nii.gz", **options)
    return theirs(model, [image], output / "theirs.nii.gz", output / "first.nii.gz", **options)


SEEN = {
    "the same spacing": {"spacing": (1.0, 1.0, 1.0)},
    "finer": {"spacing": (0.7, 0.8, 0.6)},
    "half": {"spacing": (2.0, 2.0, 2.0)},  # each voxel lies between labels
    "odd": {"spacing": (1.4, 1.2, 1.7)},
    "transposed": {"spacing": (1.3, 0.9, 1.6), "transpose": (1, 2, 0)},
    "slices one by one": {"spacing": (4.0, 0.9, 1.1)},
    "by torch": {"spacing": (1.3, 0.9, 1.6), "second": {"changes": BY_TORCH}},
}


@pytest.mark.parametrize("name", SEEN)
def test_the_second_stage_sees_what_nnunet_would_show_it(name, shared_data, tmp_path):
    image, mask = with_a_dark_corner(shared_data, tmp_path)
    model = write_cascade(tmp_path, **SEEN[name])
    found, wanted = our_view(model, image, mask), their_view(model, image, mask)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found[:1], wanted[:1], atol=2e-6, rtol=2e-6)
    assert set(np.unique(found[1:])) == {0, 1}
    near_ties = 1e-4 if name == "by torch" else 0  # it takes the largest of scores in float16
    assert (found[1:] != wanted[1:]).mean() <= near_ties


def with_a_dark_corner(shared_data: Path, folder: Path) -> tuple[Path, Path]:
    """An image with much that is 0 within its box, and labels beside that."""
    paths = folder / "image.nii.gz", folder / "mask.nii.gz"
    for path, source in zip(paths, (IMAGE, MASK), strict=True):
        loaded = nib.load(shared_data / source)
        values = np.asarray(loaded.dataobj).copy()
        if path == paths[0]:
            values[:15, :30] = 0
            values[:, :, :2] = 0
        else:
            values[13:17, 20:40, 5:20] = 2
        nib.save(nib.Nifti1Image(values, loaded.affine), path)
    return paths


def our_view(model: Path, image: Path, mask: Path) -> np.ndarray:
    bundle = load_bundle(str(model), Store())
    decoded = decode(Store(), [str(image)], budget_bytes=10**9)
    staged = stage(decoded, parse_preprocessing(bundle.preprocessing), 10**9)
    labels = np.asarray(nib.load(mask).dataobj).astype(np.uint8)
    kept = keep_labels(labels, decoded.header, budget_bytes=10**9, scratch=None)
    seen = [
        materialised(with_labels(staged, kept, bundle.label_channels, budget).model).values_CXYZ
        for budget in (0, 10**9)
    ]
    np.testing.assert_array_equal(*seen)
    return seen[0]


def their_view(model: Path, image: Path, mask: Path) -> np.ndarray:
    made = predictor(model)
    reader = made.plans_manager.image_reader_writer_class()
    values, properties = reader.read_images([str(image)])
    worker = made.configuration_manager.preprocessor_class(verbose=False)
    plans = made.plans_manager, made.configuration_manager, made.dataset_json
    values, labels, _ = worker.run_case_npy(
        values, reader.read_seg(str(mask))[0], properties, *plans
    )
    channels = made.label_manager.foreground_labels
    return np.vstack([values, *(labels == label for label in channels)])


def test_labels_of_a_sheared_volume_are_not_mixed(tmp_path):
    affine = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    values, labels = np.ones((24, 24, 24), np.float32), np.zeros((24, 24, 24), np.uint8)
    labels[::2] = 2  # between 0 and 2 lies 1
    for name, of_name in (("image", values), ("mask", labels)):
        nib.save(nib.Nifti1Image(of_name, affine), tmp_path / f"{name}.nii.gz")
    model = write_cascade(tmp_path, spacing=(1.0, 1.0, 1.0))
    seen = our_view(model, tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz")
    assert not seen[1].any()
    assert 0.3 < seen[2].mean() < 0.7


LONG = "two folds, mirrored"  # sixteen passes a stage, by nnU-Net in PyTorch
SEGMENTED = {
    "another spacing": {},
    "transposed": {"transpose": (1, 0, 2), "reader": "NibabelIOWithReorient"},
    "regions": {"labels": {"background": 0, "all": [1, 2], "posterior": [2]}, "regions": [1, 2]},
    LONG: {"folds": (0, 1)},
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.soak) if name == LONG else name for name in SEGMENTED
])  # fmt: skip
def test_the_label_map_is_that_of_nnunets_two_stages(name, shared_data, tmp_path, monkeypatch):
    add_in_float32(monkeypatch)
    image, mirror = shared_data / IMAGE, name.endswith("mirrored")
    model = write_cascade(tmp_path / "models", **SEGMENTED[name])
    wanted = both_stages(model, image, tmp_path, mirror=mirror)
    agreement = dice(segmented(model, image, tmp_path / "out", "x,y,z" if mirror else None), wanted)
    assert len(agreement) > 1
    assert min(agreement.values()) >= 0.999, agreement


def test_trained_stages_give_what_nnunet_gives(shared_data, tmp_path):
    image, mask = shared_data / IMAGE, shared_data / MASK
    model = write_cascade(tmp_path / "models")
    teach(first_of(model), image, mask)
    theirs(first_of(model), [image], tmp_path / "first.nii.gz")
    teach(model, image, mask, previous=tmp_path / "first.nii.gz")
    agreement = dice(segmented(model, image, tmp_path / "out"), both_stages(model, image, tmp_path))
    assert set(agreement) == {0, 1, 2}
    assert min(agreement.values()) >= 0.999, agreement


def asked(model: Path, image: Path, output: Path, **changes) -> SegmentSettings:
    return SegmentSettings(
        images=str(image), model=str(model), output=str(output),
        cluster=ClusterSettings(kind="serial", threads=1), **changes,
    )  # fmt: skip


def done(settings: SegmentSettings, executor: Executor | None = None):
    run = open_segment(settings)
    records = list(run_segment(run, executor or SerialExecutor()))
    close_models(run, records, seconds=1.0, workers=1)
    return records


@pytest.fixture(scope="module")
def place(shared_data, tmp_path_factory) -> Path:
    """A cascade of small windows, an image, and the label map of a serial run in one tile."""
    folder = tmp_path_factory.mktemp("cascade")
    write_cascade(folder, patch=(16, 16, 16), strides=((1, 1, 1), (2, 2, 2)))
    shutil.copy(shared_data / IMAGE, folder / "case.nii.gz")
    (record,) = done(asked(cascade_in(folder), folder / "case.nii.gz", folder / "whole"))
    assert record.status == "done", record.message
    return folder


def cascade_in(folder: Path) -> Path:
    return folder / f"nnUNetTrainer__nnUNetPlans__{CASCADE}"


def label_map(output: Path) -> bytes:
    return (output / "case_dseg.nii.gz").read_bytes()


@pytest.mark.parametrize(("tile", "memory_gb", "workers"), [
    ((13, 30, 9), 2.0, 0), ((20, 18, 17), 5e-5, 0), ((20, 30, 17), 2.0, 2), (None, 2.0, 2),
])  # fmt: skip
def test_neither_tiles_nor_memory_nor_workers_change_a_byte(
    place, tmp_path, tile, memory_gb, workers
):
    budget = Budget(memory_gb=memory_gb, scratch=str(tmp_path / "scratch"))
    settings = asked(
        cascade_in(place), place / "case.nii.gz", tmp_path / "out", budget=budget,
        windows=WindowSettings(tile=tile),
    )  # fmt: skip
    with open_executor(ClusterSpec("local", workers) if workers else ClusterSpec("serial")) as made:
        (record,) = done(settings, made)
    assert record.status == "done", record.message
    assert label_map(tmp_path / "out") == label_map(place / "whole")
    assert not list((tmp_path / "scratch").rglob("*.zarr"))


def test_the_record_is_of_both_stages_and_one_that_changes_makes_the_case_anew(place, tmp_path):
    models = shutil.copytree(place, tmp_path / "models", ignore=shutil.ignore_patterns("whole"))
    settings = asked(cascade_in(models), place / "case.nii.gz", tmp_path / "out")
    (first,) = done(settings)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "case_dseg.json", "case_dseg.nii.gz", "case_dseg.png", "runs",
    }  # fmt: skip
    bundle, before = load_bundle(str(cascade_in(models)), Store()), record_in(tmp_path / "out")
    assert before["weights"] == bundle.weights_digest
    of_first = before["settings"]["first_stage"]
    assert (of_first["model"], of_first["weights"]) == (LOWRES, bundle.first_stage.weights_digest)
    plans = list(run_plan(open_plan(settings)))
    assert close_plan(open_plan(settings), plans, 0, None).windows >= first.windows > 0
    assert (first.status, done(settings)[0].status) == ("done", "skipped")
    write_model(
        first_of(cascade_in(models)), name=LOWRES, patch=(16, 16, 16), spacing=(3.0, 3.0, 3.0),
        strides=((1, 1, 1), (2, 2, 2)), folds=(1,),
    )  # fmt: skip
    assert done(settings)[0].status == "done"
    assert record_in(tmp_path / "out")["weights"] == before["weights"]
    assert label_map(tmp_path / "out") != label_map(place / "whole")


def record_in(output: Path) -> dict:
    return json.loads((output / "case_dseg.json").read_text())


def test_beside_another_model_and_combined(place, tmp_path):
    model = write_model(tmp_path / "Dataset002_Other" / "one", patch=(16, 16, 16))
    whole = asked(cascade_in(place), place / "case.nii.gz", tmp_path, also=(str(model),),
                  combine=True)  # fmt: skip
    records = done(whole)
    assert [(one.status, one.message) for one in records] == [("done", "")] * 3
    assert label_map(tmp_path / records[0].model) == label_map(place / "whole")


def test_a_first_stage_that_fails_quarantines_the_case(place, tmp_path):
    model = write_cascade(tmp_path, first={"schemes": ["RGBTo01Normalization"]})
    image = nib.load(place / "case.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 300.0, None), tmp_path / "case.nii.gz")
    (record,) = done(asked(model, tmp_path / "case.nii.gz", tmp_path / "out"))
    assert (record.status, record.code) == ("quarantined", "values_not_rgb")
    assert not (tmp_path / "out" / "case_dseg.nii.gz").exists()


def test_members_of_an_ensemble_are_given_the_same_labels(tmp_path):
    model = write_cascade(tmp_path, folds=(0, 1))
    settings = asked(
        model / "fold_0", "memory://no", "memory://no", ensemble=(str(model / "fold_1"),)
    )
    with pytest.raises(RequestError, match=f"first stage: {LOWRES}") as caught:
        open_first(settings, Store())
    assert caught.value.code == "models_differ"


def test_layers_looks_into_networks_of_images_alone(tmp_path):
    model = open_model(asked(write_cascade(tmp_path), "memory://no", "memory://no"), Store())
    with pytest.raises(RequestError, match="labels beside the image") as caught:
        open_inspected(model)
    assert caught.value.code == "layers_hidden"


REFUSED = {
    "no first stage": ("first_stage_missing", LOWRES),
    "no such fold": ("bundle_invalid", "fold_3"),
    "three stages": ("plan_unsupported", "that has one, too"),
    "a path": ("plan_unsupported", "letters, digits"),
    "other images": ("plan_unsupported", "a first stage of 2 channels, and 1 of its second"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_cascade_is_refused_by_name(name, tmp_path):
    code, named = REFUSED[name]
    first = {"changes": {"previous_stage": LOWRES}} if name == "three stages" else {}
    if name == "other images":
        first = {"schemes": ["NoNormalization"] * 2, "masked": [False] * 2}
    model = write_cascade(tmp_path, first=first)
    if name == "no first stage":
        shutil.rmtree(first_of(model))
    if name == "a path":
        plans = read_model(model)
        plans["configurations"]["base"]["previous_stage"] = "x/../../elsewhere"
        (model / "plans.json").write_text(json.dumps(plans))
    if name == "no such fold":
        shutil.copytree(model / "fold_0", model / "fold_3")
        model = model / "fold_3"
    with pytest.raises(RequestError, match=named) as caught:
        load_bundle(str(model), Store())
    assert caught.value.code == code
