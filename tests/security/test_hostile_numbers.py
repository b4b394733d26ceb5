"""No number of a bundle takes memory or time: each is held against its range before it is used.

One child process under a limit of memory tries them all; each has ten seconds of a processor.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import random_bundle
from nnunet_models import write_model

MOST_BYTES, MOST_SECONDS = 10**9, 10
HUGE = 10**9
UNET = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
        "channels": [4, 8], "strides": [2]}  # fmt: skip
SWIN = {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": 3, "feature_size": 12}
DYN = {"_target_": "DynUNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
       "kernel_size": [3, 3], "strides": [1, 2], "upsample_kernel_size": [2]}  # fmt: skip
SEGRES = {"_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3}
NETWORKS = {
    **{f"{key} {value}": {**UNET, key: value} for key, value in (
        ("spatial_dims", HUGE), ("in_channels", HUGE), ("out_channels", HUGE),
        ("out_channels", 10**4000), ("channels", [HUGE, HUGE]), ("channels", [8] * 100_000),
        ("strides", [HUGE]), ("kernel_size", HUGE), ("num_res_units", HUGE), ("dropout", 1e300),
        ("channels", [8192, 8192]), ("kernel_size", 63), ("norm", ["GROUP", {"num_groups": HUGE}]),
        ("norm", ["x"] * 10**5), ("act", "x" * 10**6), ("channels", [[[[[[[[8]]]]]]]]),
    )},
    **{f"swin {key}": {**SWIN, key: value} for key, value in (
        ("window_size", HUGE), ("window_size", 64), ("depths", [HUGE] * 4), ("depths", [64] * 4),
        ("num_heads", [HUGE] * 4), ("feature_size", 8184), ("mlp_ratio", 1e9),
    )},
    **{f"dynunet {key}": {**DYN, key: value} for key, value in (
        ("deep_supr_num", HUGE), ("filters", [HUGE, HUGE]), ("kernel_size", [[63] * 3] * 2),
    )},
    "segresnet blocks": {**SEGRES, "blocks_down": [HUGE, 1]},
    "segresnet levels": {**SEGRES, "blocks_down": [1] * 10**5},
    "nested levels": {"_target_": "NestedUNet", "spatial_dims": 3, "in_channels": 1,
                      "out_channels": 3, "features": [8] * 33},
    "nested, all that may be": {"_target_": "NestedUNet", "spatial_dims": 3, "in_channels": 1,
                                "out_channels": 3, "features": [8192] * 16},
}  # fmt: skip
INFERERS = (
    {"roi_size": HUGE}, {"roi_size": [2048] * 3}, {"roi_size": [10**400] * 3},
    {"roi_size": [[32]] * 3}, {"roi_size": 32, "overlap": 0.9999999}, {"roi_size": 32,
    "overlap": float("nan")}, {"roi_size": 32, "overlap": [{}]}, {"roi_size": 32, "sigma_scale": 9},
)  # fmt: skip
STEPS = (
    {"_target_": "Spacingd", "pixdim": 0.001}, {"_target_": "Spacingd", "pixdim": float("inf")},
    {"_target_": "Spacingd", "pixdim": [1] * 10**5}, {"_target_": "Orientationd", "axcodes": "ABC"},
    {"_target_": "DivisiblePadd", "k": HUGE}, {"_target_": "CropForegroundd", "margin": HUGE},
    {"_target_": "CropForegroundd", "k_divisible": HUGE},
    {"_target_": "ScaleIntensityRanged", "a_min": 10**400, "a_max": 1},
    {"_target_": "NormalizeIntensityd", "subtrahend": [1.0] * 10**6},
    {"_target_": "ScaleIntensityRangePercentilesd", "lower": 5, "upper": HUGE, "b_min": 0,
     "b_max": 1},
)  # fmt: skip
PLANS = (
    {"patch_size": [HUGE] * 3}, {"patch_size": [32767] * 3}, {"spacing": [1e-9] * 3},
    {"spacing": [float("inf")] * 3}, {"n_stages": HUGE}, {"n_conv_per_stage": HUGE},
    {"features_per_stage": [HUGE] * 3}, {"kernel_sizes": [[HUGE] * 3] * 3},
    {"strides": [[HUGE] * 3] * 3}, {"n_conv_per_stage": [HUGE] * 3},
)  # fmt: skip
CHILD = """
import json, resource, sys, time
import dynamic_network_architectures.architectures.unet
from unet_pipeline.config import SegmentSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.runs import open_segment
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + {most}, held + {most}))
for folder in sys.argv[1:]:
    begin = time.process_time()
    try:
        open_segment(SegmentSettings(images=folder, model=folder, output=folder + "/out"))
        said = "opened"
    except RequestError as error:
        said = error.code
    except BaseException as error:
        said = f"TRACEBACK {{error!r}}"[:300]
    print(json.dumps([folder, said, time.process_time() - begin]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of each bundle: its code, and the seconds it took."""
    root = tmp_path_factory.mktemp("numbers")
    sound = Path(random_bundle(root / "sound", features=(4, 8), roi_size=(16, 16, 16)))
    made = json.loads((sound / "configs/inference.json").read_text())
    steps = made["preprocessing"]["transforms"]
    changed = {f"network {name}": {"network_def": one} for name, one in NETWORKS.items()}
    changed |= {f"inferer {n}": {"inferer": one} for n, one in enumerate(INFERERS)}
    changed |= {
        f"step {n}": {"preprocessing": [*steps, {"keys": "image", **one}]}
        for n, one in enumerate(STEPS)
    }
    names = {}
    for number, (name, change) in enumerate(changed.items()):
        folder = root / str(number)
        (folder / "configs").mkdir(parents=True)
        (folder / "models").symlink_to(sound / "models")
        (folder / "configs/metadata.json").symlink_to(sound / "configs/metadata.json")
        (folder / "configs/inference.json").write_text(_json({**made, **change}))
        names[str(folder)] = name
    model = write_model(root / "nnunet")
    for number, change in enumerate(PLANS):
        folder = root / f"plan{number}"
        folder.mkdir()
        (folder / "fold_0").symlink_to(model / "fold_0")
        (folder / "dataset.json").symlink_to(model / "dataset.json")
        plans = json.loads((model / "plans.json").read_text())
        base = plans["configurations"]["base"]
        for key, value in change.items():
            (base if key in base else base["architecture"]["arch_kwargs"])[key] = value
        (folder / "plans.json").write_text(json.dumps(plans))
        names[str(folder)] = f"plan {number} {change}"
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(most=MOST_BYTES), *names],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = map(json.loads, done.stdout.splitlines())
    return {names[folder]: (code, seconds) for folder, code, seconds in found}


def test_every_number_has_a_range(outcomes):
    assert len(outcomes) == len(NETWORKS) + len(INFERERS) + len(STEPS) + len(PLANS)
    refused = {"network_invalid", "bundle_invalid", "transform_unsupported", "plan_unsupported",
               "roi_size_invalid", "weights_mismatch"}  # fmt: skip
    assert {name: code for name, (code, _) in outcomes.items() if code not in refused} == {}


def test_none_takes_long(outcomes):
    assert {name: s for name, (_, s) in outcomes.items() if s > MOST_SECONDS} == {}


def _json(value: object) -> str:
    """Write numbers of any length: Python's own limit is on reading them."""
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(4300)
