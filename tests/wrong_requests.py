"""Run flows one after the other in one process, as plain Python; the server keeps their states.

python wrong_requests.py REQUESTS.json
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Run each flow with its settings; a state that is failed is no error here."""
    for name, settings in json.loads(Path(sys.argv[1]).read_text()):
        flow = getattr(import_module(f"unet_pipeline_flows.{name}"), name)
        flow(settings, return_state=True)


if __name__ == "__main__":
    main()
