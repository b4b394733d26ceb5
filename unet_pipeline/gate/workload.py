"""How much a case will ask of the network, held against a budget: in closed form, from its header.

A header of some bytes may claim a spacing that makes a model grid of any size. Nothing is laid out
before its windows and model voxels are known to stay within the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from unet_pipeline.gate.findings import Finding
from unet_pipeline.tiling.box import Box, Index3
from unet_pipeline.tiling.windows import Placement, count_windows, whole_window
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.nnunet_steps import Respace
from unet_pipeline.volume.steps import Step, covered_box, prepare
from unet_pipeline.volume.views import ShapeOnly

VOXEL_BYTES = 4  # of a voxel as the network sees it, float32
WINDOWS_FREE, VOXELS_A_WINDOW = 1000, 10  # by default: so many, and one for so many file voxels


@dataclass(frozen=True)
class Layout:
    """How a bundle lays its windows over a volume.

    Attributes
    ----------
    steps
        Preprocessing, from the file's grid to the model grid.
    channels
        Of the network's input.
    most_windows
        Windows that a case may have; None for ``default_windows``.
    stride
        What the one window of a volume is a multiple of, as of ``whole_window``; None for windows
        of ``roi_size``.
    voxel_bytes
        Memory that a voxel of that one window takes: scores, input, and the network's features.
    memory_bytes
        What the one window may take.
    """

    steps: tuple[Step, ...]
    roi_size: Index3
    overlap: float
    placement: Placement
    channels: int
    most_windows: int | None = None
    stride: Index3 | None = None
    voxel_bytes: int = 0
    memory_bytes: int = 0

    def window(self, model_shape: Index3) -> Index3:
        """Return the size of the windows of a volume of ``model_shape`` voxels."""
        return self.roi_size if self.stride is None else whole_window(model_shape, self.stride)


@dataclass(frozen=True)
class Workload:
    """Windows and model voxels of a case.

    Attributes
    ----------
    window
        Size of each of them.
    at_most
        Whether the bundle crops to what the voxels show: then this is of the whole volume.
    """

    windows: int
    window: Index3
    model_shape: Index3
    at_most: bool = False


def workload_of(grid: VoxelGrid, layout: Layout) -> Workload:
    """Return how many windows and model voxels a volume will have; nothing is laid out.

    Raises
    ------
    CaseError
        If a step of the bundle refuses the grid.
    """
    steps = steps_by_header(layout.steps)
    moving = [step for step in steps if not step.measures]
    prepared = prepare(moving, ShapeOnly(grid.shape, layout.channels), grid)
    window = layout.window(prepared.model.shape)
    windows = count_windows(
        prepared.model.shape,
        window,
        layout.overlap,
        layout.placement,
        within=covered_box(prepared, Box.whole(grid.shape)),
    )
    return Workload(windows, window, prepared.model.shape, len(steps) < len(layout.steps))


def steps_by_header(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps that can be resolved without voxels: all but crops to what these show."""
    known = (step for step in steps if not step.needs_voxels)
    return tuple(
        replace(step, cubic=False) if isinstance(step, Respace) else step for step in known
    )


def default_windows(shape: Sequence[int]) -> int:
    """Return how many windows a file of this many voxels may have, unless a request says."""
    return WINDOWS_FREE + prod(shape) // VOXELS_A_WINDOW


def check_workload(grid: VoxelGrid, layout: Layout, most_bytes: int) -> list[Finding]:
    """Hold the windows and the model voxels of a case against their budgets.

    Codes that fail: ``windows_too_many``, ``window_too_large``, ``volume_too_large``, and those of
    ``workload_of``.

    Parameters
    ----------
    most_bytes
        What the volume may take as the network sees it, float32, all channels.

    Raises
    ------
    CaseError
        As ``workload_of``.
    """
    workload = workload_of(grid, layout)
    most = layout.most_windows or default_windows(grid.shape)
    nbytes = VOXEL_BYTES * layout.channels * prod(workload.model_shape)
    if workload.windows > most:
        return [
            _failure(
                "windows_too_many",
                f"{workload.windows:,} windows, for a file of {_by(grid.shape)} voxels "
                f"({_spacing(grid)} mm) that the network sees as {_by(workload.model_shape)}",
                f"at most {most:,} windows",
                "raise --max-windows",
            )
        ]
    needed = layout.voxel_bytes * prod(workload.window)
    if needed > layout.memory_bytes:
        return [
            _failure(
                "window_too_large",
                f"a volume that goes through the network whole, as {_by(workload.window)} voxels, "
                f"and takes up to {needed / 1e9:,.3g} GB there",
                f"at most {layout.memory_bytes / 1e9:,.3g} GB",
                "raise --memory-gb",
            )
        ]
    if nbytes > most_bytes:
        return [
            _failure(
                "volume_too_large",
                f"{_by(workload.model_shape)} voxels as the network sees them, {nbytes / 1e9:,.3g} "
                f"GB, of a file of {_by(grid.shape)} ({_spacing(grid)} mm)",
                f"at most {most_bytes / 1e9:,.3g} GB",
                "raise --max-volume-gb",
            )
        ]
    return []


def check_slice(grid: VoxelGrid, layout: Layout) -> list[Finding]:
    """Check that a file of two axes lies in the plane of the network's slices.

    Code that fails: ``slice_across``.

    Raises
    ------
    CaseError
        As ``workload_of``.
    """
    shape = workload_of(grid, layout).model_shape
    if any(n == size == 1 for n, size in zip(shape, layout.window(shape), strict=True)):
        return []
    return [
        Finding(
            "slice_across", "fail",
            f"a file of two axes, {_by(shape)} voxels as the network sees it",
            f"a slice that lies as the network's do, {_by(layout.roi_size)}",
            "Give the file an affine that says how the slice lies in the body",
        )
    ]  # fmt: skip


def _failure(code: str, found: str, wanted: str, option: str) -> Finding:
    remedy = f"Look whether the spacing in the header is right; if it is, {option}"
    return Finding(code, "fail", found, wanted, remedy)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _spacing(grid: VoxelGrid) -> str:
    return " x ".join(f"{mm:.3g}" for mm in grid.spacing_mm)
