"""Pictures of the product's own runs on phantoms, by its commands."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from rich.console import Console
from rich.text import Text

from benchmarks.pictures.browser import page_of, viewer
from benchmarks.pictures.colours import few_colours
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store

COLUMNS = 100
FROM_ELSEWHERE = re.compile(r"\s*(@font-face \{.*?\}|<!--.*?-->)", re.DOTALL)


def segment(work: Path) -> Mapping[str, bytes]:
    """Return a case's picture, the run's report and what the terminal says."""
    cohort(work, 4)
    whole = (work / "scans/images/phantom-01.nii.gz").read_bytes()
    (work / "scans/images/cut-short.nii.gz").write_bytes(whole[: len(whole) // 2])
    command = "segment scans/images --masks scans/masks"
    options = "--model phantom --output results --cluster serial"
    said = unet_pipeline(f"{command} {options}", work, faults=1)
    (report,) = work.glob("results/runs/*/report.html")
    return {
        "case.png": small((work / "results/phantom-04_dseg.png").read_bytes()),
        "report.png": small(page_of(report, height=1010)),
        "terminal.svg": terminal(f"{command} \\\n      {options}", said),
    }


def view(work: Path) -> Mapping[str, bytes]:
    """Return the list of those to look at, and the viewer; one volume lost half of its field."""
    cohort(work, 24)
    file = work / "scans/images/phantom-07.nii.gz"
    whole = nib.load(file)
    voxels = np.asanyarray(whole.dataobj).copy()
    voxels[:, :, : voxels.shape[2] // 2] = voxels[0, 0, 0]
    nib.Nifti1Image(voxels, whole.affine, whole.header).to_filename(file)
    unet_pipeline(
        "segment scans/images --masks scans/masks --model phantom --output results "
        "--cluster serial --confidence map",
        work,
    )
    (report,) = work.glob("results/runs/*/report.html")
    return {
        "doubts.png": small(viewer(work / "results", keys="u")),
        "review.png": small(page_of(report, height=760, anchor="review")),
        "view.png": small(viewer(work / "results")),
    }


def layers(work: Path) -> Mapping[str, bytes]:
    """Return the drawing of the network with what each block loses, and a sheet of features."""
    cohort(work, 3)
    unet_pipeline(
        "layers scans/images --masks scans/masks --model phantom --output results "
        "--fit-cases 1 --score-cases 2 --windows 1",
        work,
    )
    (drawn,) = work.glob("results/runs/*/network.svg")
    (sheet,) = drawn.parent.glob("features/upcat_0_4_axial*.png")
    return {
        "network.svg": drawn.read_bytes(),
        "features.png": small(sheet.read_bytes()),
    }


def depths(work: Path) -> Mapping[str, bytes]:
    """Return the picture of speed against Dice of every depth."""
    cohort(work, 4)
    unet_pipeline(
        "depths scans/images --masks scans/masks --model phantom --output results "
        "--cluster serial --no-adaptive",
        work,
    )
    (plot,) = work.glob("results/runs/*/speed.png")
    return {"depths.png": small(plot.read_bytes())}


def cohort(work: Path, cases: int) -> None:
    """Write phantoms and their masks below ``scans``."""
    write_cohort(Store(), str(work / "scans"), cases, seed=7)


def unet_pipeline(command: str, work: Path, faults: int = 0) -> str:
    """Run a command in a folder and return what it prints, colours and all."""
    done = subprocess.run(
        [sys.executable, "-m", "unet_pipeline", *command.split()],
        cwd=work,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != faults:
        raise SystemExit(f"unet-pipeline {command}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout


def terminal(command: str, said: str) -> bytes:
    """Return a terminal with a command and what it printed as SVG, without fonts from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), (f"unet-pipeline {command}", "bold")))
    console.print(Text.from_ansi(said))
    drawn = console.export_svg(title="unet-pipeline")
    return FROM_ELSEWHERE.sub("", drawn).encode()


def small(png: bytes) -> bytes:
    """Return a PNG with few colours."""
    return few_colours(Image.open(io.BytesIO(png)))
