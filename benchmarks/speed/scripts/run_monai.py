"""Run a bundle with MONAI's own parts, as its tutorials do; print what it took as a JSON line.

With ``margins`` in the job, the difference of the two highest scores of each voxel is written
there, too; such a run is not measured.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures import unet
from forward_timer import ForwardTimer
from monai import transforms
from monai.data import decollate_batch, list_data_collate
from monai.inferers import sliding_window_inference


def main() -> None:
    """Run the job whose JSON is the first argument."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    config = json.loads(Path(job["model"], "configs/inference.json").read_text())
    network = _network(config["network_def"], Path(job["model"], "models/model.pt")).to(device)
    preprocessing = transforms.Compose(
        [_transform(d) for d in config["preprocessing"]["transforms"]]
    )
    postprocessing = _postprocessing(preprocessing, job["output"], job.get("margins"))
    timer = ForwardTimer(network)
    begin = perf_counter()
    batch = list_data_collate([preprocessing({"image": job["images"]})])
    with torch.inference_mode(), torch.autocast(device.type, enabled=device.type == "cuda"):
        batch["pred"] = sliding_window_inference(
            batch["image"].to(device),
            config["inferer"]["roi_size"],
            sw_batch_size=1,
            predictor=network,
            overlap=config["inferer"]["overlap"],
            mode="gaussian",
        )
    (case,) = (postprocessing(case) for case in decollate_batch(batch))
    found = {
        "work_seconds": perf_counter() - begin,
        "forward_seconds": timer.seconds,
        "windows": timer.windows,
        "label_map": case["pred"].meta["saved_to"],
        "versions": {"monai": version("monai"), "torch": version("torch")},
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _network(definition: dict[str, Any], weights: Path) -> torch.nn.Module:
    options = {k: v for k, v in definition.items() if k not in ("_target_", "spatial_dims")}
    for layer in ("conv_op", "norm_op", "nonlin"):
        options[layer] = getattr(torch.nn, options[layer].rpartition(".")[2])
    inputs, classes = options.pop("in_channels"), options.pop("out_channels")
    made = unet.PlainConvUNet(input_channels=inputs, num_classes=classes, **options)
    made.load_state_dict(torch.load(weights, weights_only=True))
    return made.eval()


def _transform(definition: dict[str, Any]) -> Any:
    options = {k: v for k, v in definition.items() if k != "_target_"}
    return getattr(transforms, definition["_target_"])(**options)


def _postprocessing(preprocessing: Any, output: str, margins: str | None) -> Any:
    steps = [
        transforms.Invertd(
            keys="pred",
            transform=preprocessing,
            orig_keys="image",
            nearest_interp=False,
            to_tensor=True,
        ),
        transforms.AsDiscreted(keys="pred", argmax=True),
        transforms.SaveImaged(
            keys="pred",
            output_dir=output,
            output_postfix="dseg",
            output_dtype=np.uint8,
            separate_folder=False,
            resample=False,
            print_log=False,
            savepath_in_metadict=True,
        ),
    ]
    if margins is not None:
        steps.insert(1, transforms.Lambdad(keys="pred", func=lambda scores: _kept(scores, margins)))
    return transforms.Compose(steps)


def _kept(scores: Any, path: str) -> Any:
    """Write the margins of scores, shape CXYZ, and return the scores."""
    first, second = torch.topk(torch.as_tensor(scores), 2, dim=0).values.float()
    np.save(path, (first - second).numpy())
    return scores


if __name__ == "__main__":
    main()
