"""Run flows one after the other in one process, as plain Python; the server keeps their states.

python wrong_requests.py REQUESTS.json
"""

import json
import sys
from importlib import import_module
from pathlib import Path

from prefect import Flow


def main() -> None:
    """Run each flow with its settings; a state that is failed is no error here."""
    for module, settings in json.loads(Path(sys.argv[1]).read_text()):
        found = vars(import_module(module)).values()
        (flow,) = (one for one in found if isinstance(one, Flow) and one.fn.__module__ == module)
        flow(settings, return_state=True)


if __name__ == "__main__":
    main()
