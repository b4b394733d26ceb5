"""Loops over voxels, compiled: each goes through memory in order, once.

They do the arithmetic of NumPy, without fused or reordered operations, so the results are the same
to the bit. The lock of the interpreter is let go of.
"""

from typing import Any

import numpy as np

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
def scale(values: Any, low: Any, high: Any, shift: Any, divisor: Any, target: Any) -> None:
    """Clip to [low, high], subtract ``shift``, divide; all float32, flat."""
    for i in range(values.size):
        value = values[i]
        value = value if value > low else low
        value = value if value < high else high
        target[i] = (value - shift) / divisor


@compiled
def _weigh(
    source_bc: Any, index_Bt: Any, weight_Bt: Any, target_Bc: Any, total: Any, start: Any, stop: Any
) -> None:
    """Fill columns ``start`` to ``stop``. Slices of whole rows let the loop work on vectors."""
    for B in range(target_Bc.shape[0]):
        index_t, weight_t = index_Bt[B], weight_Bt[B]
        total[:] = 0.0
        for t in range(0, index_t.size, 4):
            w0, w1, w2, w3 = weight_t[t], weight_t[t + 1], weight_t[t + 2], weight_t[t + 3]
            row0 = source_bc[index_t[t]][start:stop]
            row1 = source_bc[index_t[t + 1]][start:stop]
            row2 = source_bc[index_t[t + 2]][start:stop]
            row3 = source_bc[index_t[t + 3]][start:stop]
            for c in range(stop - start):
                total[c] = total[c] + w0 * row0[c] + w1 * row1[c] + w2 * row2[c] + w3 * row3[c]
        row = target_Bc[B][start:stop]
        for c in range(stop - start):
            row[c] = total[c]


@compiled
def weigh_rows(source_abc: Any, index_Bt: Any, weight_Bt: Any, target_aBc: Any, total: Any) -> None:
    """Fill rows with weighted sums of the rows of a source, added in the order of the weights.

    Parameters
    ----------
    index_Bt, weight_Bt
        Rows of the source that a row is made of, and their weights, float64; a multiple of four.
    source_abc, target_aBc
        float32 or float64, in C order. Sums are float64 until they are stored.
    total
        To work in, float64: as many columns as are worked on at a time.
    """
    width = total.size
    for a in range(target_aBc.shape[0]):
        for start in range(0, target_aBc.shape[2], width):
            stop = min(start + width, target_aBc.shape[2])
            _weigh(source_abc[a], index_Bt, weight_Bt, target_aBc[a], total, start, stop)


@compiled
def weigh_within_rows(
    source_ab: Any,
    index_Bt: Any,
    weight_Bt: Any,
    target_aB: Any,
    source_ba: Any,
    target_Ba: Any,
    total: Any,
) -> None:
    """Fill each row with weighted sums of its own source row, as ``weigh_rows`` does.

    Parameters
    ----------
    source_ba, target_Ba, total
        To work in, float64: as many rows as are worked on at a time, turned.
    """
    width = total.size
    for start in range(0, target_aB.shape[0], width):
        rows_ab, rows_aB = source_ab[start : start + width], target_aB[start : start + width]
        _turn(rows_ab, source_ba)
        _weigh(source_ba, index_Bt, weight_Bt, target_Ba, total, 0, len(rows_ab))
        _turn(target_Ba[:, : len(rows_ab)], rows_aB)


@compiled
def _turn(source_ab: Any, target_ba: Any) -> None:
    """Copy rows to columns, a cache line at a time."""
    for start in range(0, source_ab.shape[1], 8):
        for a in range(source_ab.shape[0]):
            for b in range(start, min(start + 8, source_ab.shape[1])):
                target_ba[b, a] = source_ab[a, b]


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


@compiled
def count_margins(labels: Any, margins: Any, start: Any, doubtful: Any, sums_L5: Any) -> None:
    """Count the voxels of each label, and add up their margins, apart along the border.

    A voxel is on the border if one of its six neighbours has another label. What is outside of
    ``labels`` is no neighbour.

    Parameters
    ----------
    labels
        Unsigned integers; the last axis is the inner one of memory.
    margins, start
        uint8, of a box of the labels that begins at ``start``.
    doubtful
        Margins below are doubtful.
    sums_L5
        int64, for each label: voxels, sum of their margins, voxels on the border, sum of theirs,
        doubtful voxels. Added to; label 0 is passed over.
    """
    border_k = np.empty(margins.shape[2], np.bool_)
    parts_4L5 = np.zeros((4, *sums_L5.shape), np.int64)
    for i in range(margins.shape[0]):
        for j in range(margins.shape[1]):
            a, b = start[0] + i, start[1] + j
            _find_border(labels, a, b, start[2], border_k)
            row_k = labels[a, b, start[2] : start[2] + border_k.size]
            _count_row(row_k, margins[i, j], border_k, doubtful, parts_4L5)
    for part_L5 in parts_4L5:
        sums_L5[1:] += part_L5[1:]


@compiled
def _find_border(labels: Any, a: Any, b: Any, start: Any, border_k: Any) -> None:
    """Fill in which voxels of a part of a row have a neighbour with another label."""
    (a_end, b_end, c_end), stop = labels.shape, start + border_k.size
    row_c = labels[a, b]
    border_k[:] = False
    for near in (max(a - 1, 0), min(a + 1, a_end - 1)):  # at a face, the row itself
        _mark(row_c[start:stop], labels[near, b, start:stop], border_k)
    for near in (max(b - 1, 0), min(b + 1, b_end - 1)):
        _mark(row_c[start:stop], labels[a, near, start:stop], border_k)
    first, last = max(start, 1), min(stop, c_end - 1)
    _mark(row_c[first:stop], row_c[first - 1 : stop - 1], border_k[first - start :])
    _mark(row_c[start:last], row_c[start + 1 : last + 1], border_k)


@compiled
def _mark(row_k: Any, near_k: Any, border_k: Any) -> None:
    """Mark the voxels that differ from their neighbour."""
    for k in range(row_k.size):
        border_k[k] |= row_k[k] != near_k[k]


@compiled
def _count_row(row_k: Any, margin_k: Any, border_k: Any, doubtful: Any, parts_4L5: Any) -> None:
    """Count voxels without a branch; neighbours apart, so that none waits for the one before."""
    for k in range(row_k.size):
        sums_5 = parts_4L5[k & 3, row_k[k]]
        margin, border = np.int64(margin_k[k]), np.int64(border_k[k])
        sums_5[0] += 1
        sums_5[1] += margin
        sums_5[2] += border
        sums_5[3] += border * margin
        sums_5[4] += margin < doubtful
