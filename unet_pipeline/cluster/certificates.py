"""Certificates for TLS between the processes of one Dask cluster.

One authority signs one certificate that every process of the cluster shows. Dask asks both sides
for a certificate of its authority and does not compare host names: who holds the key may join,
nobody else. Another cluster gets another folder.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from unet_pipeline.cluster.tls import CA, CERTIFICATE, KEY
from unet_pipeline.errors import RequestError


def make_certificates(folder: Path, days: int) -> datetime:
    """Write an authority's certificate, one that it signed, and its key; return when they end.

    The authority's own key is not kept, so nothing more can be signed with it.

    Raises
    ------
    RequestError
        ``certificates_exist`` if the folder has any: a running cluster may use them.
    """
    if present := [name for name in (CA, CERTIFICATE, KEY) if (folder / name).exists()]:
        raise RequestError(
            "certificates_exist", subject=str(folder), found=", ".join(present),
            wanted="a folder without certificates",
            remedy="Name a new folder, or remove these once no cluster uses them",
        )  # fmt: skip
    begin = datetime.now(UTC) - timedelta(minutes=5)  # clocks of nodes differ
    end = begin + timedelta(days=days)
    authority, holder = (
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP384R1()),
    )
    ca = _signed("unet-pipeline authority", authority, authority, (begin, end), ca=True)
    certificate = _signed("unet-pipeline", holder, authority, (begin, end), ca=False)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, data in (
        (KEY, _key_pem(holder)),
        (CERTIFICATE, certificate.public_bytes(serialization.Encoding.PEM)),
        (CA, ca.public_bytes(serialization.Encoding.PEM)),
    ):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(data)
    return end


def _signed(
    name: str,
    holder: ec.EllipticCurvePrivateKey,
    authority: ec.EllipticCurvePrivateKey,
    valid: tuple[datetime, datetime],
    *,
    ca: bool,
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("unet-pipeline authority"))
        .public_key(holder.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(holder.public_key()), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
    )
    if not ca:
        builder = builder.add_extension(both, critical=False)
    return builder.sign(authority, hashes.SHA384())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
