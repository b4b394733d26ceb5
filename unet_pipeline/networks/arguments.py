"""The arguments of a network, held against their ranges before anything is built from them.

A bundle's ``network_def`` is a stranger's text. A count of a billion would make a constructor work
for minutes, and a list without end would fill memory; so every number has a range by its name, and
lists, texts and nesting have limits. What is within them may still be a network that is too large:
``limits.py`` asks for its size before it takes up memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

_MOST_ENTRIES, _MOST_VALUES, _DEEPEST, _LONGEST_TEXT = 32, 1000, 6, 200
MOST_CHANNELS = 1024  # of the output: labels of one network


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included."""

    low: float
    high: float
    whole: bool = True

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high

    def __str__(self) -> str:
        kind = "whole numbers" if self.whole else "numbers"
        return f"{kind} from {self.low:g} to {self.high:g}"


_CHANNELS, _COUNTS, _SIZES = Range(1, 8192), Range(0, 64), Range(0, 64)
_SHARES, _OTHERS = Range(0, 1, whole=False), Range(-8192, 8192, whole=False)
_RANGES: Mapping[str, Range] = {
    "spatial_dims": Range(2, 3),
    "in_channels": Range(1, 256),
    "out_channels": Range(1, MOST_CHANNELS),
    **dict.fromkeys(
        ("features", "channels", "filters", "feature_size", "init_filters", "features_per_stage",
         "encoder_features", "decoder_features", "up_features", "last_features", "stem_channels"),
        _CHANNELS,
    ),
    **dict.fromkeys(
        ("blocks_down", "blocks_up", "num_res_units", "encoder_convs", "decoder_convs", "depths",
         "num_heads", "n_stages", "n_conv_per_stage", "n_blocks_per_stage", "deep_supr_num",
         "n_conv_per_stage_decoder", "num_layers"),
        _COUNTS,
    ),
    **dict.fromkeys(
        ("strides", "kernel_size", "kernel_sizes", "up_kernel_size", "upsample_kernel_size",
         "window_size", "patch_size"),
        _SIZES,
    ),
    **dict.fromkeys(
        ("dropout", "dropout_prob", "dropout_rate", "drop_rate", "attn_drop_rate",
         "dropout_path_rate", "p"),
        _SHARES,
    ),
}  # fmt: skip


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check the numbers, texts and lists that a network is to be built from.

    Raises
    ------
    ValueError
        For the first that is out of its range, with its name.
    """
    left = [_MOST_VALUES]
    for name, value in arguments.items():
        _check(name, name, value, left, _DEEPEST)


def _check(where: str, name: str, value: Any, left: list[int], deep: int) -> None:
    left[0] -= 1
    if left[0] < 0 or deep < 0:
        raise ValueError(f"more than {_MOST_VALUES} values, or lists in lists, up to {where}")
    match value:
        case None | bool():
            return
        case str() if len(value) <= _LONGEST_TEXT:
            return
        case str():
            raise ValueError(f"{where} of {len(value):,} characters")
        case int() | float():
            allowed = _RANGES.get(name, _OTHERS)
            if not isfinite(value) or value not in allowed:
                raise ValueError(f"{where} {_brief(value)}, which must be {allowed}")
        case Mapping() if len(value) <= _MOST_ENTRIES:
            for key, one in value.items():
                _check(f"{where}::{key}", str(key), one, left, deep - 1)
        case list() | tuple() if len(value) <= _MOST_ENTRIES:
            for one in value:
                _check(where, name, one, left, deep - 1)
        case _:
            raise ValueError(f"{where} of more than {_MOST_ENTRIES} entries")


def _brief(value: float) -> str:
    return str(value) if isinstance(value, int) and abs(value) < 10**9 else f"{float(value):g}"
