"""What it is when memory runs out, whoever says so: PyTorch on a device or on a CPU, or NumPy."""

import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unet_pipeline.errors import CaseError, PipelineError

OUT_OF_MEMORY = "out_of_memory"
_SAID = (  # by errors that have no type of their own
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_ASKED = re.compile(r"(?:allocate|for) ([\d.]+ ?(?:bytes|[KMGT]i?B))")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory has run out, on the device or on the host."""
    if isinstance(error, MemoryError) or _raised_by(error) is not None:
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAID)


def no_memory(error: BaseException, doing: str = "") -> CaseError:
    """Return the fault of a case for which memory has run out.

    Parameters
    ----------
    doing
        For what.
    """
    found = _ASKED.search(str(error))
    asked = f"{found[1]} more" if found else "more"
    return CaseError(
        OUT_OF_MEMORY,
        found=f"no memory: {asked} was asked for{doing and f' {doing}'}, and there is "
        f"{_there_is(error)}",
        wanted="as much as the network and one tile take",
        remedy="Use a machine or a device with more memory, fewer workers on it (--workers), or "
        "a model of smaller windows",
    )


@contextmanager
def memory_named() -> Iterator[None]:
    """Raise it as a fault of the case where memory runs out."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise no_memory(error) from error


def _raised_by(error: BaseException) -> Any:
    """Return torch if it has raised an error for want of memory: then it is imported already."""
    torch: Any = sys.modules.get("torch")
    raised = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return torch if raised else None


def _there_is(error: BaseException) -> str:
    torch = _raised_by(error)
    if torch is not None and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return f"{free / 1e9:.2f} GB free of the {total / 1e9:.2f} GB of the device"
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    said = f"{free / 1e9:.2f} GB free on the machine"
    if limit == resource.RLIM_INFINITY:
        return said
    return f"{said}, in a process that may have {limit / 1e9:.2f} GB"
