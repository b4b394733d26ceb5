"""An environment of nnU-Net's own, made once beside the benchmark."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".venv-nnunet"
REQUIREMENTS = ("torch>=2.8,<2.14", "nnunetv2>=2.8,<3")


def nnunet_python() -> str:
    """Return the interpreter of that environment; make it if it is not there.

    Raises
    ------
    subprocess.CalledProcessError
        If the packages cannot be installed.
    """
    python, done = FOLDER / "bin" / "python", FOLDER / ".installed"
    if not done.exists() or done.read_text() != _wanted():
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        done.write_text(_wanted())
    return str(python)


def _wanted() -> str:
    return "\n".join(REQUIREMENTS) + "\n"
