"""The command ``view``: the cases of a run in a browser."""

from rich.text import Text

from unet_pipeline.cli.generated import from_settings
from unet_pipeline.config import ViewSettings


@from_settings
def view(settings: ViewSettings) -> None:
    """Show image and label map of each case of a run in a browser, the doubtful ones first.

    Serves a page on this machine alone until Ctrl-C, and prints its address. Nothing is written,
    nothing is copied: what is looked at is read from where it lies. From another machine:
    `ssh -L 8765:127.0.0.1:8765 host`, and `--port 8765` there.

    Example: `unet-pipeline view s3://results/`
    """
    from unet_pipeline import console
    from unet_pipeline.jobs.view import open_view, run_view

    with console.waiting("Looking for the run"):
        run = open_view(settings)

    def ready(address: str) -> None:
        doubtful = sum(bool(one.reasons) for one in run.index.cases)
        said = f"{len(run.index.cases):,} cases, {doubtful:,} of them to look at"
        console.out.print(Text(f"Run      {run.folder}: {said}"), soft_wrap=True)
        console.out.print(Text(f"Address  {address}"), soft_wrap=True)
        console.out.print("Ctrl-C ends it.")

    run_view(run, ready)
