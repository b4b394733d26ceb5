"""Plant every fault of the test suite in every real pair of a folder, and say what the gate finds.

    python benchmarks/planted_faults.py DATA [--json FILE]

DATA is the folder of real volumes that the tests use. Prints a table in Markdown.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from planting import FAULTS, findings_of, judged, read_pair, sound_pairs

from unet_pipeline.gate.findings import verdict_of

OUTCOMES = ("detected", "wrong code", "missed", "not applicable")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every n-th hippocampus pair")
    options = parser.parse_args()
    named = list(sound_pairs(options.data))
    few = [p for p in named if "hippocampus" not in p[0]]
    many = [p for p in named if "hippocampus" in p[0]][:: options.every]
    pairs = [*few, *many]
    verdicts: Counter[str] = Counter()
    table: dict[str, Counter[str]] = {fault.name: Counter() for fault in FAULTS}
    others = []
    for index, (name, image, mask) in enumerate(pairs):
        second = pairs[(index + 1) % len(pairs)][1]
        pair = read_pair(image, mask, second)
        verdicts[verdict_of(findings_of(pair, voxels=True))] += 1
        for fault in FAULTS:
            outcome, codes = judged(fault, pair)
            table[fault.name][outcome] += 1
            if outcome in {"wrong code", "missed"}:
                others.append((fault.name, name, codes))
    lines = [f"| fault | {' | '.join(OUTCOMES)} |", "| --- |" + " ---: |" * len(OUTCOMES)]
    for fault_name, counts in table.items():
        cells = " | ".join(str(counts[outcome] or "") for outcome in OUTCOMES)
        lines.append(f"| {fault_name} | {cells} |")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.write(f"\n{len(pairs)} sound pairs: {dict(verdicts)}\n")
    for line in others:
        sys.stdout.write(f"not detected: {line}\n")
    if options.json:
        record = {"pairs": len(pairs), "sound": dict(verdicts), "faults": table, "not": others}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
