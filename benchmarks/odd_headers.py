"""What the gate says of each file of the folders odd_headers/ and broken/, a line each.

    python benchmarks/odd_headers.py DATA

DATA is the folder of real volumes that the tests use. Prints a table in Markdown, and the peak
memory of the whole.
"""

import argparse
import resource
import sys
from pathlib import Path

from unet_pipeline.gate.examine import Policy
from unet_pipeline.gate.inspect import inspect
from unet_pipeline.records import Case
from unet_pipeline.storage.store import Store


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    sys.stdout.write("| file | verdict | codes | found |\n| --- | --- | --- | --- |\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for folder in ("odd_headers", "broken"):
        for path in sorted((options.data / folder).iterdir()):
            if path.name.endswith((".img", ".img.gz")) and any(path.parent.glob(_header_of(path))):
                continue
            case = Case(path.name, (str(path),))
            record = inspect(Store(), case, Policy(), content=True).record()
            found = next((f["found"] for f in record.findings if f["severity"] != "pass"), "")
            codes = " ".join(record.codes)
            sys.stdout.write(f"| {path.name} | {record.verdict} | {codes} | {found} |\n")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(f"\npeak memory: {before / 1e3:.0f} MB before, {after / 1e3:.0f} MB after\n")


def _header_of(path: Path) -> str:
    return f"{path.name.partition('.img')[0]}.hdr*"


if __name__ == "__main__":
    main()
