"""Who is measured, and the command that runs each."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.cases import Case, Files

PEER_NAMES = {"monai": "MONAI's script", "nnunet": "nnU-Net's predictor"}
SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Contender:
    """One way to segment a case.

    Attributes
    ----------
    kind
        Whose code runs: ``ours``, ``monai`` or ``nnunet``.
    model
        Whose preprocessing it runs: ``monai`` or ``nnunet``, and then from the folder that these
        read; ``cohort`` for a bundle that comes with the package.
    cluster, engine
        Of ours.
    """

    kind: str
    model: str
    cluster: str = ""
    engine: str = ""

    @property
    def name(self) -> str:
        """What the table says, e.g. ``ours, eager, Dask``."""
        if self.kind != "ours":
            return PEER_NAMES[self.kind]
        return f"ours, {self.engine}, {'serial' if self.cluster == 'serial' else 'Dask'}"

    @property
    def slug(self) -> str:
        """The name as part of a path."""
        return "-".join(part for part in (self.model, self.kind, self.cluster, self.engine) if part)


@dataclass(frozen=True)
class Equipment:
    """What is the same for all contenders.

    Attributes
    ----------
    threads
        CPU threads of a forward pass.
    device
        ``cpu`` or ``cuda``.
    nnunet_python
        Interpreter of an environment that has nnU-Net.
    """

    threads: int
    device: str
    nnunet_python: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables that hold all contenders to the same threads and device."""
        libraries = ("OMP", "MKL", "OPENBLAS")
        limits = {f"{name}_NUM_THREADS": str(self.threads) for name in libraries}
        limits["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(self.threads)
        return limits if self.device == "cuda" else {**limits, "CUDA_VISIBLE_DEVICES": ""}


def contenders_of(case: Case, engines: Sequence[str], peers: Sequence[str]) -> list[Contender]:
    """Return who runs a case: for each peer it, and ours with the same preprocessing.

    Parameters
    ----------
    engines
        Of ours; with the first, ours also runs serially.
    peers
        ``monai``, ``nnunet``, both or none; without any, ours runs the MONAI bundle.
    """
    if case.is_cohort:
        return [Contender("ours", "cohort", "local", engine) for engine in engines]
    found = []
    for model in peers or ("monai",):
        found.append(Contender("ours", model, "serial", engines[0]))
        found += [Contender("ours", model, "local", engine) for engine in engines]
        if model in peers:
            found.append(Contender(model, model))
    return found


def command_of(
    contender: Contender, files: Files, equipment: Equipment, output: Path, **more: Any
) -> list[str]:
    """Return the command that segments a case into a folder."""
    folders = {} if files.models is None else vars(files.models)
    job = {
        "images": str(files.images),
        "model": str(folders.get(contender.model, "hippocampus")),
        "output": str(output),
        "threads": equipment.threads,
        "device": equipment.device,
        "cluster": contender.cluster,
        "engine": contender.engine,
        **more,
    }
    python = equipment.nnunet_python if contender.kind == "nnunet" else sys.executable
    return [python, str(SCRIPTS / f"run_{contender.kind}.py"), json.dumps(job)]
