"""Run flows as copies of one process that has imported what they need: seconds less for each.

python copies_of_flows.py, with an order a line on stdin: {"words", "env", "said", "code"}. Words
are a script, or a module after -m, and its arguments; what it says and its exit status go to files,
and so does its number where an order has "pid".
"""

import json
import os
import runpy
import select
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from unet_pipeline.processes import lasting_imports

FLOWS = ("check", "compare", "depths", "layers", "segment", "train")


def main() -> None:
    """Take orders until there are no more; the process itself runs nothing and has one thread."""
    with lasting_imports():
        for name in FLOWS:
            import_module(f"unet_pipeline_flows.{name}")
            import_module(f"unet_pipeline.jobs.{name}")
        import_module("unet_pipeline_flows.segment_cases")
    threads = len([*Path("/proc/self/task").iterdir()]) if sys.platform == "linux" else 1
    assert threads == 1, "what a thread holds is never let go of in a copy"
    orders, running = open(0, "rb", buffering=0), {}  # noqa: SIM115  until the process ends
    while True:
        if select.select([orders], [], [], 0.1)[0]:
            if not (line := orders.readline()):
                return
            order = json.loads(line)
            if (pid := os.fork()) == 0:
                _run(order)
                return
            running[pid] = Path(order["code"])
            if "pid" in order:
                Path(order["pid"]).write_text(f"{pid}\n")
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            running.pop(ended[0]).write_text(str(os.waitstatus_to_exitcode(ended[1])))


def _run(order: dict[str, Any]) -> None:
    """Become what ``python WORDS`` is in its environment, but for the imports."""
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, said), (2, said)):
        os.dup2(file, descriptor)
    os.environ.clear()
    os.environ |= order["env"]
    first, *rest = order["words"]
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    main()
