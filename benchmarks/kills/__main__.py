"""Kill parts of the system at random moments of runs, and see what becomes of the cases.

    python -m benchmarks.kills --part PART --times N --seed S --out results.jsonl
    python -m benchmarks.kills --table results.jsonl

Parts: flow, flow-by-hand, prefect-worker, prefect-server, dask-worker, dask-scheduler, s3. A part
is killed (SIGKILL) again and again in the middle of a run over ``--cases`` tiny cases; where the
run ends by that, the next one is begun. When all cases are done the round is over: a line is
appended with its kills, and what was lost, done twice and left. Started again with the same file
it goes on until there are ``--times`` kills. What costs most is the start of a round, the time
until a part is there again, and the pause before it is killed: more ``--cases`` and a higher
``--most`` make rounds longer, a ``--pace`` below 1 makes pauses shorter, and a ``--folder`` keeps
the cohort and its undisturbed label maps for the next start.
"""

import argparse
import json
import os
import random
import tempfile
from pathlib import Path

from benchmarks.kills.rounds import play
from benchmarks.kills.scenes import PARTS, open_scene
from benchmarks.kills.site import Site, open_site
from benchmarks.kills.table import read_rounds, table


def main() -> None:
    """Kill, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=[*PARTS], nargs="+", default=[])
    parser.add_argument("--times", type=int, default=170)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--most", type=int, default=30, help="kills of a round")
    parser.add_argument("--pace", type=float, default=1.0, help="share of the pauses of each part")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("kills.jsonl"))
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    if asked.table:
        print(table(read_rounds(asked.table), [*PARTS]))
        return
    with (
        tempfile.TemporaryDirectory(prefix="unet-kills-") as folder,
        open_site(asked.folder or Path(folder), asked.cases) as site,
    ):
        while left := {one: _left(asked, one) for one in asked.part if _left(asked, one) > 0}:
            for name, times in left.items():  # a round of each, so that all come on
                _kill(site, name, asked, min(times, asked.most))


def _kill(site: Site, name: str, asked: argparse.Namespace, most: int) -> None:
    """Play a round, and append its line."""
    rng = random.Random(f"{asked.seed} {name} {len(read_rounds(asked.out))}")
    scene = open_scene(site, rng, name)
    for victim in scene.victims:
        victim.spread *= asked.pace
    try:
        one = play(scene, rng, most)
    finally:
        scene.close()
    load = round(os.getloadavg()[1], 1)
    line = {"part": name, "seed": asked.seed, "pace": asked.pace, "load": load}
    with asked.out.open("a") as file:
        file.write(json.dumps({**line, **one.as_dict()}) + "\n")


def _left(asked: argparse.Namespace, name: str) -> int:
    rounds = read_rounds(asked.out)
    return int(asked.times - sum(len(one["kills"]) for one in rounds if one["part"] == name))


if __name__ == "__main__":
    main()
