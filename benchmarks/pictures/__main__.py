"""Make the pictures of README and docs, from real runs on phantoms and from measured results.

    python -m benchmarks.pictures [--only GROUP,...]

They go to ``docs/pictures``. Nothing in them is a patient's: phantoms, numbers and pages only.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.pictures.groups import FOLDER, GROUPS


def main() -> None:
    """Make them, group by group."""
    parser = argparse.ArgumentParser(prog="make pictures", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", default=",".join(GROUPS), help=f"groups: {', '.join(GROUPS)}. Default: all."
    )
    chosen = parser.parse_args().only.split(",")
    if unknown := set(chosen) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    FOLDER.mkdir(exist_ok=True)
    for name in chosen:
        group = GROUPS[name]
        with tempfile.TemporaryDirectory(prefix="unet-pipeline-pictures-") as work:
            made = group.make(Path(work))
        if set(made) != set(group.files):
            raise SystemExit(f"{name} made {sorted(made)}; wanted {sorted(group.files)}")
        for file, data in made.items():
            (FOLDER / file).write_bytes(data)
            print(f"{FOLDER.name}/{file}: {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
