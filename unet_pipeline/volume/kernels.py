"""Loops over voxels, compiled: each goes through memory in order, once.

They do the arithmetic of NumPy, without fused or reordered operations, so the results are the same
to the bit. The lock of the interpreter is let go of.
"""

from typing import Any

from unet_pipeline.tiling.compiling import compiled


@compiled
def mix_rows(
    source_abc: Any, below: Any, above: Any, rest: Any, share: Any, target_aBc: Any
) -> None:
    """Fill rows with ``below x rest + above x share`` of the rows of a source; float32."""
    for a in range(target_aBc.shape[0]):
        for b in range(target_aBc.shape[1]):
            low_c, high_c = source_abc[a, below[b]], source_abc[a, above[b]]
            r, s = rest[b], share[b]
            for c in range(target_aBc.shape[2]):
                target_aBc[a, b, c] = low_c[c] * r + high_c[c] * s


@compiled
def mix_within_rows(
    source_ab: Any, below: Any, above: Any, rest: Any, share: Any, target_aB: Any
) -> None:
    """Fill each row with ``below x rest + above x share`` of its own source row; float32."""
    for a in range(target_aB.shape[0]):
        row_b, row_B = source_ab[a], target_aB[a]
        for b in range(row_B.size):
            row_B[b] = row_b[below[b]] * rest[b] + row_b[above[b]] * share[b]


@compiled
def copy_turned(source_abc: Any, target_abc: Any, block_bc: Any) -> None:
    """Copy between two layouts: axis B is the inner one of the source, axis C of the target.

    Parameters
    ----------
    block_bc
        To work in, square. One of a cache line's width lets both sides move whole lines.
    """
    width = block_bc.shape[0]
    a_end, b_end, c_end = source_abc.shape
    for a in range(a_end):
        for b0 in range(0, b_end, width):
            for c0 in range(0, c_end, width):
                b1, c1 = min(b_end, b0 + width), min(c_end, c0 + width)
                for c in range(c0, c1):
                    for b in range(b0, b1):
                        block_bc[b - b0, c - c0] = source_abc[a, b, c]
                for b in range(b0, b1):
                    for c in range(c0, c1):
                        target_abc[a, b, c] = block_bc[b - b0, c - c0]


@compiled
def count_pairs(first: Any, second: Any, both: Any, only_first: Any, only_second: Any) -> None:
    """Count, per label, the voxels that both of two maps give it, and those that only one does.

    Parameters
    ----------
    first, second
        Labels as flat integer arrays of one length; those outside the counters are left out.
    both, only_first, only_second
        int64, an element per label, from 0; added to.
    """
    end = both.size
    for i in range(first.size):
        a, b = first[i], second[i]
        if a == b:
            if 0 <= a < end:
                both[a] += 1
        else:
            if 0 <= a < end:
                only_first[a] += 1
            if 0 <= b < end:
                only_second[b] += 1
