"""Write the files of a case as they should be: what the gate was allowed to put right."""

import numpy as np

from unet_pipeline.gate.alignment import allowed_mm
from unet_pipeline.gate.examine import Examined, Policy
from unet_pipeline.records import Case, json_bytes
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.nifti import encode_labels
from unet_pipeline.volume.nifti_header import NiftiHeader, header_of
from unet_pipeline.volume.regrid import Method, conformed, same_grid
from unet_pipeline.volume.staging import StoredView, read_volume

BUDGET_BYTES = 16_000_000_000  # of one decoded file


def mend(store: Store, case: Case, examined: Examined, policy: Policy, place: str) -> None:
    """Write each file of a case that was put right below ``place``, and a record of what was done.

    Files that needed nothing are not copied. The record, ``<case>.json``, is written last; its
    ``files`` names what to use, as a row of a manifest does.
    """
    first = examined.sound_header()
    takes_form = any(fix.endswith("form") for fix in examined.fixed)
    written = []
    for index, url in enumerate(case.images):
        suffix = "" if len(case.images) == 1 else f"_{index:04d}"
        target = join(place, f"{case.name}{suffix}.nii.gz")
        view = _read(store, url, policy)
        if takes_form or not _lies_on(view, first, policy):
            store.write(target, _encoded(view, first, policy, "linear", new_header=takes_form))
            written.append(target)
        else:
            written.append(url)
    files: dict[str, object] = {"image": ";".join(written)}
    if case.mask is not None:
        files["mask"] = case.mask
        view = _read(store, case.mask, policy)
        if takes_form or not _lies_on(view, first, policy):
            files["mask"] = join(place, f"{case.name}_mask.nii.gz")
            data = _encoded(view, first, policy, "nearest", new_header=takes_form)
            store.write(str(files["mask"]), data)
    record = {"case": case.name, "fixed": list(examined.fixed), "files": files}
    originals = {"image": ";".join(case.images), "mask": case.mask}
    store.write(join(place, f"{case.name}.json"), json_bytes({**record, "originals": originals}))


def _read(store: Store, url: str, policy: Policy) -> StoredView:
    return read_volume(store, url, role="volume", budget_bytes=BUDGET_BYTES, form=policy.form).view


def _lies_on(view: StoredView, first: NiftiHeader, policy: Policy) -> bool:
    return same_grid(view.header.grid, first.grid, allowed_mm(first.grid, policy.tolerance))


def _encoded(
    view: StoredView, first: NiftiHeader, policy: Policy, method: Method, *, new_header: bool
) -> bytes:
    """Return a file of the volume on the first channel's grid.

    It has the geometry of the first channel's header, bit for bit; or, with ``new_header``, a
    qform and an sform that both say what the chosen form says.
    """
    allowed = allowed_mm(first.grid, policy.tolerance)
    values_XYZ = conformed(view.values(), view.header.grid, first.grid, allowed, method)
    like = header_of(first.grid.shape, first.grid.affine, np.float32) if new_header else first
    return encode_labels(values_XYZ, like)
