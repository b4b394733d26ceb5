"""MONAI's transforms are the oracle: the same voxels forward, the same scores back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.tiling.box import Box
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.preprocessing import parse_preprocessing
from unet_pipeline.volume.steps import covered_box, prepare
from unet_pipeline.volume.views import ArrayView, materialised

OBLIQUE = np.array(
    [[-0.9, 0.3, 0.1, 12], [0.2, 1.1, -0.4, -7], [0.05, 0.5, 2.2, 3], [0, 0, 0, 1.0]]
)
OBLIQUE[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0] @ np.diag([0.8, -1.1, 2.5])


TILTED = OBLIQUE.astype(np.float32).astype(np.float64)  # as a header keeps it


def volume(shape=(18, 21, 13), channels=1, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 40, (channels, *shape)).astype(np.float32)
    values[:, : shape[0] // 4] = -3
    values[:, :, -3:] = 0
    return values


def transform(name: str, **options) -> dict:
    if name == "Orientationd":
        options["labels"] = [["L", "R"], ["P", "A"], ["I", "S"]]  # MONAI warns without
    return {"_target_": name, "keys": "image", **options}


def monai_forward(values, affine, transforms):
    import monai.transforms as mt

    steps = Compose(
        [
            getattr(mt, t["_target_"])(**{k: v for k, v in t.items() if k != "_target_"})
            for t in transforms
        ]
    )
    tensor = MetaTensor(torch.from_numpy(values.copy()), affine=torch.from_numpy(affine))
    return steps, steps({"image": tensor})


def ours(values, affine, transforms):
    grid = VoxelGrid.of(values.shape[1:], affine)
    view = ArrayView(values)
    return view, prepare(parse_preprocessing(transforms), view, grid)


LISTS = {
    "orient": [transform("Orientationd", axcodes="RAS")],
    "lps": [transform("Orientationd", axcodes="LPS")],
    "finer": [
        transform("Orientationd", axcodes="RAS"),
        transform("Spacingd", pixdim=[0.7, 0.9, 1.4], mode="bilinear"),
    ],
    "coarser": [
        transform("Orientationd", axcodes="RAS"),
        transform("Spacingd", pixdim=[1.7, 2.0, 3.4], mode="bilinear"),
        transform("NormalizeIntensityd", nonzero=True),
    ],
    "crop": [
        transform("Orientationd", axcodes="RAS"),
        transform("CropForegroundd", source_key="image", margin=2, k_divisible=4),
        transform("Spacingd", pixdim=1.3),
        transform("DivisiblePadd", k=[8, 16, 4]),
    ],
    "resized": [transform("Resized", spatial_size=[24, -1, 9], mode=["trilinear"])],
    "longest": [
        transform("Orientationd", axcodes="RAS"),
        transform("Resized", spatial_size=30, size_mode="longest", mode="bilinear"),
    ],
    "corners": [
        transform("Resized", spatial_size=[11, 30, 13], mode="trilinear", align_corners=True)
    ],
    "crop within": [transform("CropForegroundd", source_key="image", margin=5, allow_smaller=True)],
    "percentiles": [
        transform("ScaleIntensityRangePercentilesd", lower=1, upper=99, b_min=0, b_max=1, clip=True)
    ],
    "range": [
        transform("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True)
    ],
    "standardise": [transform("NormalizeIntensityd", channel_wise=True)],
    "given": [
        transform("NormalizeIntensityd", subtrahend=[3, 4], divisor=[2, 5], channel_wise=True)
    ],
}


@pytest.mark.parametrize("affine", [OBLIQUE, TILTED], ids=["exact", "float32"])
@pytest.mark.parametrize("name", LISTS)
def test_forward_gives_monais_voxels_on_monais_grid(name, affine):
    channels = 2 if name == "given" else 1
    values = volume(channels=channels)
    _, expected = monai_forward(values, affine, LISTS[name])
    view, prepared = ours(values, affine, LISTS[name])
    model = materialised(prepared.forward(view))
    assert model.shape == tuple(expected["image"].shape[1:])
    np.testing.assert_allclose(prepared.model.affine, expected["image"].affine, atol=1e-5)
    scale = float(expected["image"].abs().max())
    np.testing.assert_allclose(model.values_CXYZ, expected["image"].numpy(), atol=2e-5 * scale)


@pytest.mark.parametrize("affine", [OBLIQUE, TILTED], ids=["exact", "float32"])
@pytest.mark.parametrize(
    "name",
    ["orient", "lps", "finer", "coarser", "crop", "crop within", "resized", "longest", "corners"],
)
def test_scores_come_back_as_with_invertd(name, affine):
    values = volume()
    steps, after = monai_forward(values, affine, LISTS[name])
    scores = np.random.default_rng(1).normal(size=after["image"].shape).astype(np.float32)
    after["pred"] = MetaTensor(torch.from_numpy(scores), meta=after["image"].meta)
    inverted = Invertd("pred", steps, orig_keys="image", nearest_interp=False)(after)["pred"]
    _, prepared = ours(values, affine, LISTS[name])
    back = materialised(prepared.backward(ArrayView(scores)))
    np.testing.assert_allclose(back.values_CXYZ, inverted.numpy(), atol=5e-5)


@settings(max_examples=30)
@given(st.sampled_from(sorted(LISTS)), st.data())
def test_a_box_has_the_same_bits_as_the_whole(name, data):
    values = volume(channels=2 if name == "given" else 1)
    view, prepared = ours(values, OBLIQUE, LISTS[name])
    for chain in (
        prepared.forward(view),
        prepared.backward(ArrayView(volume(prepared.model.shape))),
    ):
        start = [data.draw(st.integers(0, n - 1)) for n in chain.shape]
        stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, chain.shape, strict=True)]
        box = Box(tuple(start), tuple(stop))
        whole = materialised(chain)
        assert chain.read(box).tobytes() == np.ascontiguousarray(whole.read(box)).tobytes()


@settings(max_examples=30)
@given(st.sampled_from(sorted(LISTS)), st.data())
def test_the_covered_box_is_all_that_a_write_box_needs(name, data):
    values = volume(channels=2 if name == "given" else 1)
    _, prepared = ours(values, OBLIQUE, LISTS[name])
    start = [data.draw(st.integers(0, n - 1)) for n in values.shape[1:]]
    box = Box.at(start, (1, 1, 1))
    needed = covered_box(prepared, box)
    scores = volume(prepared.model.shape)
    part = ArrayView(
        scores[(slice(None), *needed.within(Box.whole(prepared.model.shape)))],
        needed,
        prepared.model.shape,
    )
    whole = prepared.backward(ArrayView(scores)).read(box)
    assert prepared.backward(part).read(box).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (transform("RandFlipd"), "RandFlipd"),
        (transform("Spacingd", pixdim=1, mode="nearest"), "mode='nearest'"),
        (transform("CropForegroundd", select_fn="$lambda x: x > 5"), "select_fn"),
        (transform("ScaleIntensityRangePercentilesd", lower=1), "without upper"),
        (transform("Resized", spatial_size=[8, 8, 8]), "mode='area'"),
        (transform("Resized", spatial_size=[8, 8, 8], mode=["nearest"]), "mode='nearest'"),
        (transform("Resized", spatial_size=[8, 8, 9e9], mode="linear"), "spatial_size"),
        (transform("Resized", spatial_size=[8, 8, 8.5], mode="linear"), "spatial_size"),
        (transform("Resized", spatial_size=8, mode="linear"), "spatial_size"),
        (transform("Resized", spatial_size=[8, 8], mode="linear", anti_aliasing=True), "anti_alia"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(bad, named):
    with pytest.raises(RequestError, match=named) as caught:
        parse_preprocessing([bad])
    assert caught.value.code == "transform_unsupported"


def test_a_volume_without_foreground_is_the_cases_fault():
    values = np.zeros((1, 4, 4, 4), np.float32)
    with pytest.raises(CaseError) as caught:
        ours(values, np.eye(4), [transform("CropForegroundd", source_key="image")])
    assert caught.value.code == "no_foreground"
