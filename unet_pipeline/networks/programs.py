"""Networks that come as programs: TorchScript (``model.ts``), torch.export (``model.pt2``).

A program can do more than a network does, so it is loaded only where the user trusts its source.
What it takes and gives is what the bundle's metadata say.
"""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unet_pipeline.caches import compilers_keep_to_it
from unet_pipeline.errors import RequestError

PROGRAMS = ("models/model.pt2", "models/model.ts")
_TARGET = "unet_pipeline.networks.programs.Program"


class Program(nn.Module):
    """A loaded program as a network; it is in evaluation mode and stays so."""

    def __init__(self, loaded: Any) -> None:
        super().__init__()
        self._run = [loaded]  # in a list: torch.export's modules refuse eval()

    def forward(self, x: Tensor) -> Any:
        """Return what the program returns."""
        return self._run[0](x)

    def _apply(self, function: Any, recurse: bool = True) -> "Program":
        """Move what is inside, as ``to`` does for a module's own tensors."""
        self._run[0]._apply(function, recurse)
        return self


def build(**_: Any) -> nn.Module:
    """Refuse: a program is read from its file, not built."""
    raise ValueError("a program cannot be built from a network_def")


def program_def(metadata: Mapping[str, Any], spatial_dims: int) -> dict[str, Any]:
    """Return a ``network_def`` of what the metadata say of a program's input and output.

    Raises
    ------
    KeyError, TypeError, ValueError
        If they do not say it.
    """
    data = metadata["network_data_format"]
    return {
        "_target_": _TARGET,
        "spatial_dims": spatial_dims,
        "in_channels": int(data["inputs"]["image"]["num_channels"]),
        "out_channels": int(data["outputs"]["pred"]["num_channels"]),
    }


def check_trust(url: str, path: str, trust: bool) -> None:
    """Refuse a program that nobody vouches for."""
    if not trust:
        raise RequestError(
            "program_untrusted",
            found=f"a network that is a program ({path}), which could do anything",
            wanted="weights as safetensors with a network_def, or your trust",
            remedy="Say --trust if you know where the bundle comes from",
            subject=url,
        )


def load_program(url: str, data: bytes) -> Program:
    """Load a program; this runs code of the file.

    Raises
    ------
    RequestError
        ``bundle_invalid`` if it cannot be read.
    """
    try:
        if url.endswith(".pt2"):
            compilers_keep_to_it()
            return Program(torch.export.load(io.BytesIO(data)).module())
        load: Any = torch.jit.load
        return Program(load(io.BytesIO(data), map_location="cpu").eval())
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RequestError(
            "bundle_invalid",
            found=f"{len(data):,} bytes that torch cannot load ({type(error).__name__})",
            wanted="a program that torch.jit.save or torch.export.save wrote",
            remedy="Take the bundle from its source again, or export it with this torch",
            subject=url,
        ) from error
