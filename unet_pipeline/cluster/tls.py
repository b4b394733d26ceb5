"""TLS between Dask processes, by certificates of one authority."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from distributed import Security

from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.errors import RequestError

CA, CERTIFICATE, KEY = "ca.pem", "certificate.pem", "key.pem"


def security_of(spec: ClusterSpec) -> Security | None:
    """Return what Dask needs to speak TLS only, from the folder of certificates.

    Raises
    ------
    RequestError
        ``tls_incomplete`` for a folder without certificates, ``tls_unreadable`` for what is none,
        ``tls_expired`` for one that is no longer, or not yet, valid; ``tls_needed`` and
        ``tls_mixed`` for an address that says otherwise than the folder.
    """
    if spec.tls is None:
        if spec.kind.startswith("tls://"):
            raise RequestError(
                "tls_needed", subject=spec.kind, found="the address of a locked scheduler",
                wanted="certificates",
                remedy="Give the folder of certificates with --tls",
            )  # fmt: skip
        return None
    if spec.kind.startswith("tcp://"):
        raise RequestError(
            "tls_mixed", subject=spec.kind, found="an open scheduler, and certificates",
            wanted="a scheduler that speaks TLS, tls://host:port",
            remedy="Start it with the same certificates, or leave --tls out",
        )  # fmt: skip
    folder = Path(spec.tls).expanduser().absolute()
    missing = [name for name in (CA, CERTIFICATE, KEY) if not (folder / name).is_file()]
    if missing:
        raise RequestError(
            "tls_incomplete", subject=spec.tls, found=f"no {', '.join(missing)}",
            wanted=f"{CA}, {CERTIFICATE} and {KEY}",
            remedy=f"Make them with `unet-pipeline certificates {spec.tls}`",
        )  # fmt: skip
    for name in (CA, CERTIFICATE):
        _check_valid(folder / name)
    files: dict[str, str] = {"tls_ca_file": str(folder / CA)}
    for role in ("client", "scheduler", "worker"):
        files[f"tls_{role}_cert"] = str(folder / CERTIFICATE)
        files[f"tls_{role}_key"] = str(folder / KEY)
    return Security(require_encryption=True, **files)


def _check_valid(file: Path) -> None:
    try:
        found = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestError(
            "tls_unreadable", subject=str(file), found=f"no certificate ({type(error).__name__})",
            wanted="a certificate (PEM)", remedy="Make new ones with `unet-pipeline certificates`",
        ) from error  # fmt: skip
    begin, end, now = found.not_valid_before_utc, found.not_valid_after_utc, datetime.now(UTC)
    if not begin <= now <= end:
        when = f"ended on {end:%Y-%m-%d}" if now > end else f"begins on {begin:%Y-%m-%d}"
        raise RequestError(
            "tls_expired", subject=str(file), found=f"a certificate that {when}",
            wanted=f"one that is valid now, on {now:%Y-%m-%d}",
            remedy="Make new ones in a new folder with `unet-pipeline certificates`, for all "
            "processes of the cluster",
        )  # fmt: skip
