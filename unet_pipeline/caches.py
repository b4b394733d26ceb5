"""The user's cache folder: what can be made or measured again. It may always be lost.

Some of it is code, or is unpickled by who keeps it there: PyTorch's compiler, Triton, Numba. So all
of it lies in one folder that is this user's alone, and so are the folders above it. Where that
cannot be, a process keeps a cache of its own, which ends with it.
"""

import logging
import os
import sys
from functools import cache
from pathlib import Path

from unet_pipeline.errors import PipelineError
from unet_pipeline.private import own_folder
from unet_pipeline.scratch import open_scratch, scratch_path

log = logging.getLogger(__name__)

CACHE_VARIABLE = "UNET_PIPELINE_CACHE"


def cache_folder() -> Path:
    """Return the folder that is meant for it; it need not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "unet_pipeline"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unet_pipeline"


def cache_of(kind: str) -> Path:
    """Return a folder for one kind of thing that is kept; it is there, and this user's alone."""
    try:
        folder = own_folder(cache_folder(), way=True)
        return own_folder(folder / kind)
    except (PipelineError, OSError, RuntimeError) as error:  # RuntimeError: there is no home
        folder = _own_of_this_process(str(error)) / kind
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder


def compilers_keep_to_it() -> None:
    """Let PyTorch's compiler and Triton keep their files here.

    By default they use a folder in the system's folder for temporary files, whose name any user can
    know and make first, and unpickle and load what they find there.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_of("inductor"))
    os.environ["TRITON_CACHE_DIR"] = str(cache_of("triton"))


@cache
def _own_of_this_process(why: str) -> Path:
    log.warning("nothing is kept beyond this process: %s", why)
    path = scratch_path()
    open_scratch(path)
    return path
