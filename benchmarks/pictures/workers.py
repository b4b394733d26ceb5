"""What workers do while they share a large volume."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def timeline(folder: Path) -> Mapping[str, bytes]:
    """Segment a volume of 512^3 on two workers, and return what they did when."""
    drawing = folder / "timeline.svg"
    words = ["--sizes", "512", "--folder", str(folder), "--timeline", str(drawing)]
    command = [sys.executable, "-m", "benchmarks.large_volumes", *words]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    return {drawing.name: drawing.read_bytes()}
