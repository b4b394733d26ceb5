"""The password of a local Prefect server: made once, kept in its folder, readable by its owner."""

import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

SERVER_AUTH, AUTH = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"


@dataclass(frozen=True)
class Password:
    """What Prefect's page and programs are asked for.

    Attributes
    ----------
    text
        ``user:password``.
    file
        Where it is kept; None if it came from the environment.
    made
        Whether it was made just now, and nobody has seen it yet.
    """

    text: str = field(repr=False)
    file: Path | None
    made: bool


def password_of(home: Path) -> Password:
    """Return ``PREFECT_SERVER_API_AUTH_STRING``, or what is kept in ``home``, or make one there.

    One that others could have read, or that another user wrote, is replaced.
    """
    if (there := kept_password(home)) is not None:
        return there
    file = home / "password"
    text = f"admin:{secrets.token_urlsafe(24)}"
    write_private(file, text)
    return Password(text, file, made=True)


def kept_password(home: Path) -> Password | None:
    """Return ``PREFECT_SERVER_API_AUTH_STRING``, or what is kept in ``home``, if it is there."""
    if given := os.environ.get(SERVER_AUTH):
        return Password(given, None, made=False)
    file = home / "password"
    kept = _kept(file)
    return None if kept is None else Password(kept, file, made=False)


def write_profile(home: Path, url: str, password: Password) -> None:
    """Let ``PREFECT_HOME=home prefect ...`` find this server, and its password."""
    values = f'PREFECT_API_URL = "{url}/api"\nPREFECT_API_AUTH_STRING = "{_toml(password.text)}"\n'
    write_private(home / "profiles.toml", f'active = "local"\n\n[profiles.local]\n{values}')


def write_private(file: Path, text: str) -> None:
    """Write a file that was never readable by anyone else, not even for a moment."""
    file.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)


def _kept(file: Path) -> str | None:
    """Return the password in a file if it is a plain file that only we could read and write."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, encoding="utf-8") as opened:
        about = os.fstat(opened.fileno())
        ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid()
        if not ours or stat.S_IMODE(about.st_mode) & 0o077:
            return None
        text = opened.read(1024).strip()
    user, _, secret = text.partition(":")
    return text if user and secret else None


def _toml(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
