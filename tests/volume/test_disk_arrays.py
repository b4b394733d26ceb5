"""Arrays in files of scratch: the same as in memory, and no memory for long."""

import gc
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, basic_indices

from unet_pipeline.scratch import scratch_folder
from unet_pipeline.volume.disk_arrays import Room, each_slab, largest, let_go, slabs_of, zeros

maps = arrays(st.sampled_from([np.uint8, np.int16]), array_shapes(min_dims=3, max_dims=3))
SIDE = 256  # 16 MiB


@pytest.fixture(scope="module")
def scratch():
    with scratch_folder() as folder:
        yield folder


def resident(folder: Path) -> int:
    """Return the bytes of mapped files of a folder that count as memory of this process."""
    lines, found = iter(Path("/proc/self/smaps").read_text().splitlines()), 0
    for line in lines:
        if f"{folder}/" in line:
            found += 1024 * int(next(one for one in lines if one.startswith("Rss:")).split()[1])
    return found


def files(folder: Path) -> list[str]:
    gc.collect()
    return [path.name for path in folder.iterdir() if path.suffix == ".raw"]


@given(st.data(), maps)
def test_it_is_an_array_as_any_other(scratch, data, values):
    kept = zeros(values.shape, values.dtype, Room(0, str(scratch)))
    assert type(kept) is np.ndarray
    assert kept.flags.f_contiguous
    assert kept.flags.writeable
    assert not kept.any()
    kept[...] = values
    for index in data.draw(st.lists(basic_indices(values.shape), max_size=4)):
        let_go(kept[index])
        np.testing.assert_array_equal(kept[index], values[index])
    for part in each_slab(kept):
        kept[..., part] = values[..., part][::-1]
    np.testing.assert_array_equal(kept, values[::-1])
    assert largest(kept) == max(0, values.max())


@pytest.mark.parametrize(("budget", "mapped"), [(400, False), (399, True)])
def test_a_quarter_of_the_budget_stays_in_memory(scratch, budget, mapped):
    kept = zeros((10, 5, 2), np.uint8, Room(budget, str(scratch)))
    assert bool(files(scratch)) == mapped
    del kept
    assert not files(scratch)


def test_whoever_goes_slab_by_slab_holds_a_slab(scratch):
    kept = zeros((SIDE, SIDE, SIDE), np.uint8, Room(0, str(scratch)))
    kept[...] = 1
    assert resident(scratch) == SIDE**3
    let_go(kept)
    assert resident(scratch) == 0
    total, most = 0, 0
    for part in each_slab(kept, places=[slice(z, z + 16) for z in range(0, SIDE, 16)]):
        total += int(kept[..., part].sum())
        most = max(most, resident(scratch))
    assert total == SIDE**3
    assert SIDE**2 * 16 <= most <= SIDE**2 * 16 + 2**18
    assert resident(scratch) <= 2**18


def test_the_file_ends_with_the_last_view_of_it(scratch):
    kept = zeros((4, 4, 4), np.uint8, Room(0, str(scratch)))
    view = kept[::2, ::-1].T
    del kept
    assert len(files(scratch)) == 1
    del view
    assert files(scratch) == []


def test_nobody_else_may_read_it(scratch):
    kept = zeros((4, 4, 4), np.uint8, Room(0, str(scratch)))
    (path,) = scratch.glob("*.raw")
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept.size == 64


def test_a_disk_that_is_full_is_an_error_and_not_the_end_of_the_process(tmp_path):
    """A mapped file that meets it later would be a SIGBUS."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, {HARD}))\n"
    child = limit + (
        "from unet_pipeline.volume.disk_arrays import Room, zeros\n"
        "from unet_pipeline.storage.faults import of_system\n"
        "from unet_pipeline.scratch import scratch_folder\n"
        f"with scratch_folder({str(tmp_path)!r}) as folder:\n"
        "    try:\n"
        "        zeros((256, 256, 256), 'u1', Room(0, str(folder)))\n"
        "    except OSError as error:\n"
        "        print(of_system(error).code, len(list(folder.glob('*.raw'))))\n"
    )
    said = subprocess.run([sys.executable, "-c", child], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["scratch_full", "0"]
    assert list(tmp_path.iterdir()) == []


HARD = resource.getrlimit(resource.RLIMIT_FSIZE)[1]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=3))
def test_slabs_are_all_of_an_array(shape):
    places = [z for part in slabs_of(tuple(shape)) for z in range(*part.indices(shape[-1]))]
    assert places == list(range(shape[-1]))
