"""Hook of mkdocs: the site has the pages where the repository has them, so links lead the same way.

Besides them it has the reference, made from docstrings, and mermaid, so no reader's browser
fetches anything from elsewhere.
"""

import hashlib
from importlib.metadata import distribution
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from unet_pipeline import _HOMES

PAGES = (
    *("*.md", "deploy/**/*.md", "deploy/prefect.yaml", "unet_pipeline/bundles/*/docs/*.md"),
    *("docs/**/*.md", "docs/pictures/*", "docs/site/*.css"),
)
MERMAID = "07e37dfa97b337ccc85365d57eddf99b9706f09db3b59b260d0333b23b343c4b"  # 11.12.0, of npm
RECORDS = ("records.CaseRecord", "records.CheckRecord", "networks.bundle.Bundle")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the repository's pages in the place of what mkdocs found in one folder."""
    root = Path(config.config_file_path).parent
    names = sorted({p.relative_to(root).as_posix() for glob in PAGES for p in root.glob(glob)})
    return Files(
        [
            *(file for file in files if file.src_dir != config.docs_dir),
            *(File(name, str(root), config.site_dir, config.use_directory_urls) for name in names),
            File.generated(config, "reference/python.md", content=_reference()),
            File.generated(config, "mermaid.js", content=_mermaid()),
        ]
    )


def _reference() -> str:
    """Return a page that names what ``import unet_pipeline as up`` has, for mkdocstrings."""
    parts = ["# Python\n\n`import unet_pipeline as up`; how to: [From Python](../docs/python.md)."]
    for home in dict.fromkeys(_HOMES.values()):
        names = [f"api.{home}.{name}" for name in _HOMES if _HOMES[name] == home]
        parts += [f"## {home.capitalize()}", *(f"::: unet_pipeline.{name}" for name in names)]
    parts += ["## Records", *(f"::: unet_pipeline.{name}" for name in RECORDS)]
    return "\n\n".join(parts)


def _mermaid() -> bytes:
    """Return the script that the package ``mmdc`` holds, if it is the one that npm has."""
    script = Path(str(distribution("mmdc").locate_file("mmdc/assets/mermaid.js"))).read_bytes()
    if hashlib.sha256(script).hexdigest() != MERMAID:
        raise PluginError("mermaid.js of the package mmdc is not mermaid 11.12.0 as npm has it")
    return script
