"""Pictures as they stand in a page, where many must not make it large."""

from io import BytesIO

from PIL import Image

_WEBP_QUALITY = 75


def smaller(png: bytes) -> tuple[bytes, str]:
    """Return a picture for a page, a fifth as large, and its kind; as it is if it is no PNG."""
    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            buffer = BytesIO()
            image.convert("RGB").save(buffer, "WEBP", quality=_WEBP_QUALITY, method=2)
    except (OSError, ValueError):
        return png, "png"
    return buffer.getvalue(), "webp"
