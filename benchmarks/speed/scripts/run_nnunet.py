"""Run a model with nnU-Net's own predictor, as its command does; print what it took as a JSON line.

This file runs in an environment of nnU-Net's own. With ``margins`` in the job, the difference of
the two highest scores of each voxel is written there; such a run is not measured.
"""

import json
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from forward_timer import ForwardTimer
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

PROCESSES = 3  # for preprocessing and for export: the default of nnUNetv2_predict


def main() -> None:
    """Run the job whose JSON is the first argument."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    with redirect_stdout(sys.stderr):
        found = _run(job)
    sys.stdout.write(json.dumps(found) + "\n")


def _run(job: dict[str, Any]) -> dict[str, Any]:
    predictor = _predictor(job)
    image, output = Path(job["images"]), Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    label_map = output / image.name
    timer = ForwardTimer(predictor.network)
    begin = perf_counter()
    if "margins" in job:
        _write_margins(predictor, image, label_map, job["margins"])
    else:
        predictor.predict_from_files(
            [[str(image)]],
            [str(label_map).removesuffix(".nii.gz")],
            num_processes_preprocessing=PROCESSES,
            num_processes_segmentation_export=PROCESSES,
        )
    return {
        "work_seconds": perf_counter() - begin,
        "forward_seconds": timer.seconds,
        "windows": timer.windows,
        "label_map": str(label_map),
        "versions": {"nnunetv2": version("nnunetv2"), "torch": version("torch")},
    }


def _predictor(job: dict[str, Any]) -> nnUNetPredictor:
    device = torch.device(job["device"])
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(job["model"], (0,))
    return predictor


def _write_margins(predictor: nnUNetPredictor, image: Path, label_map: Path, path: str) -> None:
    reader = predictor.plans_manager.image_reader_writer_class()
    values, properties = reader.read_images([str(image)])
    labels, shares_CZYX = predictor.predict_single_npy_array(values, properties, None, None, True)
    reader.write_seg(labels, str(label_map), properties)
    first, second = torch.topk(torch.from_numpy(shares_CZYX), 2, dim=0).values.float()
    margins_ZYX = first.log() - second.log()  # of softmax: the difference of the scores
    np.save(path, np.ascontiguousarray(margins_ZYX.numpy().T))


if __name__ == "__main__":
    main()
