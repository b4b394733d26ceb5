"""What a volume claims, held against what is stored, before it is read."""

from unet_pipeline.storage.store import Store
from unet_pipeline.volume.axes import XYZ, Axes
from unet_pipeline.volume.formats import reader_of
from unet_pipeline.volume.formats.protocol import MOST_BYTES, ProbeResult, ReadOptions
from unet_pipeline.volume.forms import Form

__all__ = ["MOST_BYTES", "ProbeResult", "probe_header"]


def probe_header(
    store: Store,
    url: str,
    form: Form | None = None,
    most_bytes: int = MOST_BYTES,
    axes: Axes = XYZ,
) -> ProbeResult:
    """Read the header of a volume of any format, and as little else as tells whether it is whole.

    Raises
    ------
    CaseError
        ``volume_too_large``, and what its format's reader finds.
    """
    return reader_of(url).probe(store, url, ReadOptions(form, axes, most_bytes))
