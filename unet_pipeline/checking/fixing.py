"""Write the files of a case as they should be: what the gate was allowed to put right."""

from dataclasses import replace
from uuid import uuid4

import numpy as np

from unet_pipeline.gate.alignment import allowed_mm
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.gate.inspect import read_reference
from unet_pipeline.records import Case
from unet_pipeline.scratch import scratch_folder
from unet_pipeline.storage.claims import RECORD, claim, refuse_inputs
from unet_pipeline.storage.ledger import digest_bytes, read_record
from unet_pipeline.storage.sidecar import DONE, stamped
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import canonical
from unet_pipeline.volume.axes import Axes
from unet_pipeline.volume.decoding import NanRule, StoredView, read_volume
from unet_pipeline.volume.disk_arrays import Room
from unet_pipeline.volume.formats import nifti_file
from unet_pipeline.volume.header import Header, header_of
from unet_pipeline.volume.labels import of_one_hot
from unet_pipeline.volume.regrid import Method, match_grid, same_grid

_MASK = "_mask.nii.gz"


def write_fixed(store: Store, case: Case, examined: Examined, policy: Policy, place: str) -> None:
    """Write each file of a case that was put right below ``place``, and a record of what was done.

    Files that needed nothing are not copied. The record, ``<case>.json``, is written last; its
    ``files`` names what to use, by whole URLs, whatever the folder that the command began in.

    Raises
    ------
    CaseError
        ``output_foreign`` where a file lies that is not of an earlier call.
    RequestError
        ``output_is_input`` where a file would take the place of the one that it was made of.
    """
    with scratch_folder() as scratch:
        _write_fixed(store, case, examined, policy, place, str(scratch))


def _write_fixed(
    store: Store, case: Case, examined: Examined, policy: Policy, place: str, scratch: str
) -> None:
    first, output = examined.sound_header(), join(place, case.name)
    there = read_record(store, f"{output}{RECORD}")
    made: dict[str, bytes] = {}
    takes_form = any(fix.endswith("form") for fix in examined.fixed)
    written = []
    for index, url in enumerate(case.images):
        axes, nan = policy.axes_of(len(case.images)), policy.nan_in_images
        views = _read(store, url, policy, scratch, examined, nan, axes)
        if not (takes_form or _differs(views[0])) and _lies_on(views[0], first, policy):
            written.append(canonical(url))
            continue
        alone = len(case.images) == len(views) == 1
        for channel, view in enumerate(views, start=index):  # a file for each
            suffix = ".nii.gz" if alone else f"_{channel:04d}.nii.gz"
            made[suffix] = _encoded(view, first, policy, "linear", new_header=takes_form)
            written.append(canonical(f"{output}{suffix}"))
    files: dict[str, object] = {"image": ";".join(written)}
    if case.mask is not None and case.parts:
        grid, room = first.grid, Room(policy.memory_bytes, scratch)
        mask = read_reference(store, case.mask, case.parts, grid, policy, room, examined.versions)
        made[_MASK] = nifti_file(mask.labels_XYZ, _header(first, new=takes_form))
        files["mask"] = canonical(f"{output}{_MASK}")
    elif case.mask is not None:
        files["mask"] = canonical(case.mask)
        view, *more = _read(
            store, case.mask, policy, scratch, examined, policy.nan_in_masks,
            policy.axes_of_masks,
        )  # fmt: skip
        if more:
            values_XYZ = of_one_hot([one.values() for one in (view, *more)])
            plain = replace(view.header, slope=1.0, inter=0.0, volumes=1, stored=1)
            view = replace(view, header=plain, values_XYZ=values_XYZ, kept=None)
        if more or takes_form or _differs(view) or not _lies_on(view, first, policy):
            made[_MASK] = _encoded(view, first, policy, "nearest", new_header=takes_form)
            files["mask"] = canonical(f"{output}{_MASK}")
    originals = {"image": ";".join(case.images), "mask": ";".join(case.mask_files) or None}
    refuse_inputs(
        (f"{output}{suffix}" for suffix in made),
        [*case.images, *case.mask_files],
    )
    written = [digest_bytes(data) for data in made.values()]
    mine = claim(store, output, f"fix-{uuid4().hex}", there, made).begin(store, written)
    for suffix, data in made.items():
        mine.write(store, suffix, data)
    record = stamped(
        state=DONE,
        run_id=mine.run_id,
        written=written,
        case=case.name,
        fixed=examined.fixed,
        files=files,
        originals=originals,
    )
    mine.write_record(store, record)


def _read(
    store: Store,
    url: str,
    policy: Policy,
    scratch: str,
    examined: Examined,
    nan: NanRule,
    axes: Axes,
) -> tuple[StoredView, ...]:
    return read_volume(
        store, url, role="volume", budget_bytes=policy.memory_bytes, scratch=scratch,
        form=policy.form, most_bytes=policy.most_bytes, versions=examined.versions,
        axes=axes, nan=nan,
    ).views  # fmt: skip


def _differs(view: StoredView) -> bool:
    """Say whether a file is to be written for what it holds, wherever it lies."""
    return bool(view.filled) or view.header.stored > view.header.volumes


def _lies_on(view: StoredView, first: Header, policy: Policy) -> bool:
    return same_grid(view.header.grid, first.grid, allowed_mm(first.grid, policy.tolerance))


def _encoded(
    view: StoredView, first: Header, policy: Policy, method: Method, *, new_header: bool
) -> bytes:
    """Return a file of the volume on the first channel's grid.

    It has the geometry of the first channel's header, bit for bit; or, with ``new_header``, a
    qform and an sform that both say what the chosen form says.
    """
    allowed = allowed_mm(first.grid, policy.tolerance)
    values_XYZ = match_grid(view.values(), view.header.grid, first.grid, allowed, method)
    return nifti_file(values_XYZ, _header(first, new=new_header))


def _header(first: Header, *, new: bool) -> Header:
    if not new:
        return first
    return replace(header_of(first.grid.shape, first.grid.affine, np.float32), flat=first.flat)
