"""Loops over voxels, compiled: what would be several passes over memory in NumPy is one here.

Each does the same arithmetic in the same order as the NumPy code that it stands for, without
fused or reordered operations, so the results are the same to the bit. The lock of the interpreter
is let go of, so threads can share the work.

Axes: C classes; X Y Z voxels of the model grid; U V W the axes of both grids in the order in which
scores are interpolated along them. Small letters are voxels of the model grid, capital letters
those of the native grid. U is the innermost axis of memory: along V and W whole rows are mixed.
"""

from typing import Any

import numpy as np

from unet_pipeline.tiling.compiling import compiled

_ROUNDING = np.float32(2.0**-20)  # more than three interpolations can add by rounding, as a share
_TINY = np.float32(1e-30)  # more than they can add below the normal numbers


@compiled
def add_weighted(
    sums_CXYZ: Any,
    scores_Cxyz: Any,
    weight_xyz: Any,
    start: Any,
    stop: Any,
    offset: Any,
    classes: Any,
    unit: Any,
    limit: Any,
) -> int:
    """Add weight x score in units of 1/``unit`` to the sums, for a part of a window.

    Parameters
    ----------
    sums_CXYZ, scores_Cxyz, weight_xyz
        int64, float32, float32; contiguous. Small letters are voxels of the window.
    start, stop
        First voxel of the part, and the one after the last.
    offset
        How far further the sums of a voxel of this part lie, along each axis.
    classes
        First class, and the one after the last.

    Returns
    -------
    int
        How many scores are not below ``limit``, or no numbers; the sums are of no use then.
    """
    dx, dy, dz = offset
    wild = 0
    for c in range(classes[0], classes[1]):
        for x in range(start[0], stop[0]):
            for y in range(start[1], stop[1]):
                for z in range(start[2], stop[2]):
                    score = scores_Cxyz[c, x, y, z]
                    wild += not (abs(score) < limit)
                    fixed = np.int64(np.rint(score * weight_xyz[x, y, z] * unit))
                    sums_CXYZ[c, x + dx, y + dy, z + dz] += fixed
    return wild


@compiled
def add_weighted_turned(
    sums_CXYZ: Any,
    scores_xyzC: Any,
    weight_xyz: Any,
    start: Any,
    stop: Any,
    offset: Any,
    unit: Any,
    limit: Any,
    block_Cz: Any,
) -> int:
    """Do as ``add_weighted`` for all classes, of scores whose classes lie side by side in memory.

    Parameters
    ----------
    block_Cz
        float32, to work in: a row of the window, turned while it is in the caches.
    """
    dx, dy, dz = offset
    wild = 0
    for x in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            scores_zC, weight_z = scores_xyzC[x, y], weight_xyz[x, y]
            for z in range(start[2], stop[2]):
                weight = weight_z[z]
                for c in range(scores_zC.shape[1]):
                    score = scores_zC[z, c]
                    wild += not (abs(score) < limit)
                    block_Cz[c, z] = score * weight
            for c in range(block_Cz.shape[0]):
                sums_Z, row_z = sums_CXYZ[c, x + dx, y + dy], block_Cz[c]
                for z in range(start[2], stop[2]):
                    sums_Z[z + dz] += np.int64(np.rint(row_z[z] * unit))
    return wild


@compiled
def mean_scores(total_Cuvw: Any, weight_uvw: Any, mean_Cwvu: Any, range_C2: Any) -> None:
    """Divide sums by weights, and find each class's smallest and largest score.

    Parameters
    ----------
    total_Cuvw, weight_uvw
        int64, with any strides.
    mean_Cwvu
        float32, contiguous; filled. It may be one longer than the sums: what is beyond is 0.
    range_C2
        float32; filled with bounds of whatever is interpolated between the scores.
    """
    u_end, v_end, w_end = weight_uvw.shape
    for c in range(total_Cuvw.shape[0]):
        low, high = np.float32(np.inf), np.float32(-np.inf)
        if mean_Cwvu[c].size > weight_uvw.size:
            mean_Cwvu[c] = 0
            low = high = np.float32(0)
        for u in range(u_end):
            for v in range(v_end):
                for w in range(w_end):
                    total, weight = np.float64(total_Cuvw[c, u, v, w]), weight_uvw[u, v, w]
                    mean = np.float32(total / np.float64(weight))
                    mean_Cwvu[c, w, v, u] = mean
                    low, high = min(low, mean), max(high, mean)
        margin = max(abs(low), abs(high)) * _ROUNDING + _TINY
        range_C2[c, 0], range_C2[c, 1] = low - margin, high + margin


@compiled
def highest_class(
    mean_Cwvu: Any,
    range_C2: Any,
    neighbours: Any,
    weights: Any,
    buffers: Any,
    best: Any,
    label: Any,
    second: Any,
    sure: Any,
) -> None:
    """Interpolate scores and find the class of the highest one, the lowest class where equal.

    A class whose bound is below that of another cannot win and is left out; where the second
    highest score is asked for, one that is below two others, or not even within ``sure`` of one.

    Parameters
    ----------
    neighbours, weights
        Along U, V and W: the voxels below and above, int64 of shape 2 x N, and the weights of
        both, float32 of shape 2 x N.
    buffers
        float32, to work in: of shape w x v x U and w x V x U.
    best, label
        float32 and integers of shape W x V x U, contiguous; filled with scores and classes. The
        smaller the integers, the more stays in the caches.
    second
        As ``best``; filled with the second highest scores, -inf for none within ``sure`` of the
        highest. Empty if nobody asks.
    """
    low_C = np.sort(range_C2[:, 0])
    if second.size:
        floor = max(low_C[-1] - sure, low_C[max(low_C.size - 2, 0)])
        kept = np.flatnonzero(range_C2[:, 1] >= floor)
        _two_highest(mean_Cwvu, kept, neighbours, weights, buffers, best, label, second)
        return
    first = True
    for c in range(mean_Cwvu.shape[0]):
        if range_C2[c, 1] < low_C[-1]:
            continue
        _along_u(mean_Cwvu[c], neighbours[0], weights[0], buffers[0])
        _along_v(buffers[0], neighbours[1], weights[1], buffers[1])
        _along_w(buffers[1], neighbours[2], weights[2], best, label, c, first)
        first = False


@compiled
def _two_highest(
    mean_Cwvu: Any,
    kept: Any,
    neighbours: Any,
    weights: Any,
    buffers: Any,
    best: Any,
    label: Any,
    second: Any,
) -> None:
    """Go through the classes ``kept`` in pairs: what was found so far is read half as often."""
    best[:], second[:], label[:] = -np.inf, -np.inf, kept[0]
    mixed = buffers[1], np.empty_like(buffers[1])
    for begin in range(0, kept.size, 2):
        pair = kept[begin : begin + 2]
        if pair.size == 1:
            mixed[1][:] = -np.inf  # never higher
        for i in range(pair.size):
            _along_u(mean_Cwvu[pair[i]], neighbours[0], weights[0], buffers[0])
            _along_v(buffers[0], neighbours[1], weights[1], mixed[i])
        _two_along_w(mixed, neighbours[2], weights[2], best, label, second, pair)


@compiled
def _along_u(source_wvu: Any, neighbours: Any, weights: Any, target_wvU: Any) -> None:
    below, above = neighbours
    for w in range(source_wvu.shape[0]):
        for v in range(source_wvu.shape[1]):
            row_u, row_U = source_wvu[w, v], target_wvU[w, v]
            for u in range(row_U.size):
                row_U[u] = row_u[below[u]] * weights[0, u] + row_u[above[u]] * weights[1, u]


@compiled
def _along_v(source_wvU: Any, neighbours: Any, weights: Any, target_wVU: Any) -> None:
    for w in range(source_wvU.shape[0]):
        for v in range(target_wVU.shape[1]):
            a_U, b_U = source_wvU[w, neighbours[0, v]], source_wvU[w, neighbours[1, v]]
            rest, share = weights[0, v], weights[1, v]
            for u in range(a_U.size):
                target_wVU[w, v, u] = a_U[u] * rest + b_U[u] * share


@compiled
def _along_w(
    source_wVU: Any, neighbours: Any, weights: Any, best: Any, label: Any, c: Any, first: Any
) -> None:
    klass = label.dtype.type(c)
    for w in range(best.shape[0]):
        a, b = source_wVU[neighbours[0, w]].ravel(), source_wVU[neighbours[1, w]].ravel()
        rest, share = weights[0, w], weights[1, w]
        best_w, label_w = best[w].ravel(), label[w].ravel()
        for i in range(best_w.size):
            score = a[i] * rest + b[i] * share
            higher = first or score > best_w[i]
            best_w[i] = score if higher else best_w[i]
            label_w[i] = klass if higher else label_w[i]


@compiled
def _two_along_w(
    mixed: Any, neighbours: Any, weights: Any, best: Any, label: Any, second: Any, pair: Any
) -> None:
    """Do as ``_along_w`` for one class or two, and keep the second highest score, too."""
    lower_class, upper_class = label.dtype.type(pair[0]), label.dtype.type(pair[-1])
    for w in range(best.shape[0]):
        below, above = neighbours[0, w], neighbours[1, w]
        a, b = mixed[0][below].ravel(), mixed[0][above].ravel()
        c, d = mixed[1][below].ravel(), mixed[1][above].ravel()
        rest, share = weights[0, w], weights[1, w]
        best_w, label_w, second_w = best[w].ravel(), label[w].ravel(), second[w].ravel()
        for i in range(best_w.size):
            one, other = a[i] * rest + b[i] * share, c[i] * rest + d[i] * share
            before, next_one, turned = best_w[i], second_w[i], other > one
            high, low = (other, one) if turned else (one, other)
            higher = high > before
            low = low if low > next_one else next_one
            lower = before if higher else high
            second_w[i] = lower if lower > low else low
            best_w[i] = high if higher else before
            klass = upper_class if turned else lower_class
            label_w[i] = klass if higher else label_w[i]


@compiled
def lead_margins(best: Any, second: Any, steps: Any, table: Any, margin: Any) -> None:
    """Look up the margin of each voxel: ``tiling.margins.margins_of`` of ``best - second``.

    Parameters
    ----------
    best, second, margin
        float32, float32 and uint8; contiguous, of one shape. The last is filled.
    """
    best_i, second_i, margin_i = best.ravel(), second.ravel(), margin.ravel()
    last = np.float32(table.size - 1)
    for i in range(best_i.size):
        step = (best_i[i] - second_i[i]) * steps
        margin_i[i] = table[np.int64(step if step < last else last)]
