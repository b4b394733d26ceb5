"""The cases of the benchmark: which volume, how many classes, which model spacing."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.speed.models import ModelPair, write_models
from benchmarks.speed.volumes import Volume, write_cohort, write_ct

CT = Volume((512, 512, 140), (0.5, 0.5, 1.0))
RESPACED_MM = (1.5, 1.5, 1.5)


@dataclass(frozen=True)
class Case:
    """One line of comparison.

    Attributes
    ----------
    name, about
        For the command line, and for the table.
    volume
        The CT; None for a cohort of small volumes.
    classes
        Output channels, background included.
    model_mm
        Spacing of the model grid; None for that of the file.
    window
        Voxels of a window along each axis.
    count
        Volumes of a cohort.
    """

    name: str
    about: str
    volume: Volume | None = None
    classes: int = 2
    model_mm: tuple[float, float, float] | None = None
    window: int = 96
    count: int = 1

    @property
    def is_cohort(self) -> bool:
        """Whether the case is a cohort of small volumes, which only we run."""
        return self.volume is None


@dataclass(frozen=True)
class Files:
    """The files of a case. ``images`` is one file, or a cohort's folder."""

    images: Path
    models: ModelPair | None


def _own(classes: int) -> Case:
    about = f"192x192x140, {classes} classes, the file's spacing"
    return Case(f"own-{classes}", about, replace(CT, shape=(192, 192, 140)), classes)


def _respaced(classes: int) -> Case:
    about = f"512x512x140, {classes} classes, to 1.5 mm"
    return Case(f"respaced-{classes}", about, CT, classes, RESPACED_MM)


_COARSE = Volume((256, 256, 140), (1.0, 1.0, 1.0), "coarse")
_AIRY = Volume((512, 512, 140), (0.75, 0.75, 1.0), "corner")
_LONG = replace(CT, shape=(512, 512, 300))
_TINY = Volume((64, 64, 32), (1.5, 1.5, 1.5), "coarse")
_SMALL = Volume((128, 128, 96), (0.75, 0.75, 1.0), "coarse")

CASES = (
    *map(_own, (2, 25, 104)),
    *map(_respaced, (2, 25)),
    # a quarter of the voxels: at 512x512x140 the peers need more memory than most machines have
    Case("respaced-104", "256x256x140, 104 classes, to 1.5 mm", _COARSE, 104, RESPACED_MM),
    Case("air-25", "512x512x140, three quarters air, 25 classes", _AIRY, 25, RESPACED_MM),
    Case("long-25", "512x512x300, 25 classes, to 1.5 mm", _LONG, 25, RESPACED_MM),
    Case("cohort", "200 volumes of about 36x50x36, hippocampus bundle", count=200),
)
ON_REQUEST = (
    replace(_respaced(104), name="full-104"),
    Case("tiny-3", "64x64x32, 3 classes, to 2 mm", _TINY, 3, (2.0, 2.0, 2.0), window=32),
)
QUICK = (
    Case("quick-25", "128x128x96, 25 classes, resampled", _SMALL, 25, RESPACED_MM, window=32),
    Case("quick-cohort", "12 small volumes, hippocampus bundle", count=12),
)


def cases_named(names: list[str]) -> list[Case]:
    """Return cases by name.

    Raises
    ------
    KeyError
        For a name that there is not.
    """
    known = {case.name: case for case in (*CASES, *ON_REQUEST, *QUICK)}
    return [known[name] for name in names]


def write_files(case: Case, folder: Path) -> Files:
    """Write the volume and the models of a case into a new folder."""
    folder.mkdir(parents=True)
    if case.volume is None:
        (folder / "images").mkdir()
        write_cohort(case.count, folder / "images")
        return Files(folder / "images", None)
    write_ct(case.volume, folder / "ct.nii.gz")
    spacing_mm = case.model_mm or case.volume.spacing_mm
    models = write_models(folder / "models", case.classes, spacing_mm, case.window)
    return Files(folder / "ct.nii.gz", models)
