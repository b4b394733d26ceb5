"""Put the measured tables into ``docs/speed.md``, so that no number there is typed by hand.

python -m benchmarks.speed.page [RESULTS.json ...]
"""

import json
import sys
from pathlib import Path

from benchmarks.speed.results import FOLDER, ROOT
from benchmarks.speed.table import markdown

PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def main() -> None:
    """Rewrite the page."""
    files = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("speed-*.json"))
    tables = [markdown(json.loads(file.read_text())) for file in files]
    PAGE.write_text(filled(PAGE.read_text(), tables))


def filled(page: str, tables: list[str]) -> str:
    """Return a page with what stands between the marks replaced.

    Raises
    ------
    ValueError
        If the marks are not there, once each and in order.
    """
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + "\n\n".join([BEGIN, *tables, END]) + after


if __name__ == "__main__":
    main()
