"""How to reach a store: options, and the fsspec file system that they make.

Whatever the options leave open comes from the usual AWS variables (``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_PROFILE``,
``AWS_DEFAULT_REGION``, ``AWS_CA_BUNDLE``) or the AWS configuration files.
"""

import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import fsspec

from unet_pipeline.errors import RequestError
from unet_pipeline.storage.local import RegularFiles
from unet_pipeline.storage.s3 import use_quick_session
from unet_pipeline.storage.urls import LOCAL, S3, redact

_MEMORY = "memory"
CONNECT_SECONDS = 4.0
# Longest silence of a server that has accepted a request.
READ_SECONDS = 20.0
_TRIES = 3
# s3fs tries again on its own, around the tries of botocore: keep the product small.
_S3FS_TRIES = 2


@dataclass(frozen=True)
class StorageOptions:
    """How to reach an object store. Safe to print: the keys are left out.

    Attributes
    ----------
    endpoint_url
        S3 endpoint with its scheme, e.g. ``https://minio.example.org``.
    profile
        Profile of the AWS configuration files.
    region
        S3 region.
    key, secret
        Access key and its secret.
    anon
        Send unsigned requests (public buckets).
    allowed
        Prefixes that the URLs of a manifest and the links of a folder may lead to, beside the
        manifest's own folder and what lies below the folder.
    """

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    anon: bool = False
    allowed: tuple[str, ...] = ()


def filesystem(protocol: str, options: StorageOptions) -> Any:
    """Return the fsspec file system of ``protocol``; fsspec keeps one per process and options.

    Raises
    ------
    RequestError
        ``protocol_unknown`` for any but those that are tried here: s3, memory and local files,
        ``endpoint_invalid`` if the endpoint is not an http or https URL, ``ca_bundle_invalid`` if
        AWS_CA_BUNDLE names no certificates.
    """
    if protocol == LOCAL:
        return RegularFiles()
    if protocol not in {S3, _MEMORY}:
        raise RequestError(
            "protocol_unknown",
            subject=f"{protocol}://",
            found="a protocol that is not tried here",
            wanted="s3://, a local path (also file://), or memory:// within one process",
            remedy="Copy the files there, mount them as a folder, or reach them by an S3 endpoint",
        )
    opened = fsspec.filesystem(protocol, **(_s3_arguments(options) if protocol == S3 else {}))
    if protocol == S3:
        opened.retries = _S3FS_TRIES
        use_quick_session(opened)
    return opened


def signing_filesystem(options: StorageOptions) -> Any:
    """Return a file system of S3 that signs addresses as all stores know it (AWS version 4).

    Left alone, botocore signs addresses in an older way, which newer stores refuse.
    """
    arguments = _s3_arguments(options)
    config = {**arguments["config_kwargs"], "signature_version": "s3v4"}
    return fsspec.filesystem(S3, **{**arguments, "config_kwargs": config})


def forget(files: Any) -> None:
    """Let the next call of ``filesystem`` make a new one, which asks for its keys anew."""
    kept = type(files)._cache
    for token in [token for token, known in list(kept.items()) if known is files]:
        kept.pop(token, None)


def _s3_arguments(options: StorageOptions) -> dict[str, Any]:
    # Variables are read here, not by botocore, so that a changed variable makes a new instance.
    endpoint = options.endpoint_url or _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    config: dict[str, Any] = {
        # Otherwise a range read of an object stored by one PUT fails its whole-object checksum.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"mode": "standard", "max_attempts": _TRIES},
    }
    if endpoint and _is_loopback(endpoint):
        config["proxies"] = {}
    arguments: dict[str, Any] = {
        "endpoint_url": endpoint,
        "anon": options.anon,
        "client_kwargs": {**_region(options), **_authorities()},
        "config_kwargs": config,
        "use_listings_cache": False,
        # A file that is replaced while it is read raises, instead of giving a mixture of both.
        "local_expiry_check": True,
        **_keys(options),
    }
    if options.profile:
        arguments["profile"] = options.profile
    return arguments


def _keys(options: StorageOptions) -> dict[str, str | None]:
    if options.anon:
        return {}
    if options.key or options.secret:
        return {"key": options.key, "secret": options.secret}
    if options.profile:
        return {}
    return {
        "key": _variable("AWS_ACCESS_KEY_ID"),
        "secret": _variable("AWS_SECRET_ACCESS_KEY"),
        "token": _variable("AWS_SESSION_TOKEN"),
    }


def _region(options: StorageOptions) -> dict[str, str]:
    region = options.region or _variable("AWS_REGION", "AWS_DEFAULT_REGION")
    return {"region_name": region} if region else {}


def _authorities() -> dict[str, str]:
    """Return the certificates to hold the endpoint's against, if they are not the system's."""
    bundle = _variable("AWS_CA_BUNDLE")
    return {} if bundle is None else {"verify": _checked(bundle)}


@cache
def _checked(bundle: str) -> str:
    try:
        ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise RequestError(
            "ca_bundle_invalid",
            subject="AWS_CA_BUNDLE",
            found=f"{bundle}, which cannot be read ({type(error).__name__})",
            wanted="a file of certificates (PEM) on every machine that reads or writes",
            remedy="Correct the variable, or copy the file there",
        ) from error
    return bundle


def _variable(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def _is_loopback(endpoint: str) -> bool:
    """Say whether ``endpoint`` is this machine, which no proxy can reach for us."""
    host = _host(endpoint)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RequestError(
            "endpoint_invalid",
            subject=redact(endpoint),
            found="an S3 endpoint that is not a web address",
            wanted="an endpoint like https://minio.example.org or http://127.0.0.1:9000",
            remedy="Correct the endpoint setting or AWS_ENDPOINT_URL",
        )
    return parts.hostname
