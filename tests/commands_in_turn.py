"""Run commands of the command line one after the other in one process: one time of imports.

python -W error commands_in_turn.py COMMANDS.json FOLDER

What each says by any way, its workers' lines too, is in FOLDER/NAME.out and FOLDER/NAME.err;
exit statuses are in FOLDER/codes.json.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from unet_pipeline.cli import app
from unet_pipeline.processes import prepare_process


@contextmanager
def into(file: Path, descriptor: int) -> Iterator[None]:
    """Write what goes to a descriptor into a file, and so do processes that start meanwhile."""
    kept = os.dup(descriptor)
    with file.open("wb") as written:
        os.dup2(written.fileno(), descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def status(words: Sequence[str]) -> int:
    """Run a command and return its exit status."""
    try:
        app(words)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    raise AssertionError("a command ends with an exit status")


def main() -> None:
    """Run all of them; what none of them foresaw ends the process."""
    prepare_process()
    commands, folder, codes = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), {}
    for name, words in commands.items():
        with ExitStack() as stack:
            stack.enter_context(into(folder / f"{name}.out", 1))
            stack.enter_context(into(folder / f"{name}.err", 2))
            codes[name] = status(words)
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
