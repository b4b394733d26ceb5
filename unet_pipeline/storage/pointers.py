"""Files that stand for a file that was not fetched: the pointers of Git LFS and git-annex."""

MOST_BYTES = 1024  # of a pointer; Git LFS promises less
_STARTS = (
    (b"version https://git-lfs.github.com/spec/", "Git LFS", "git lfs pull"),
    (b"version https://hawser.github.com/spec/", "Git LFS", "git lfs pull"),
    (b"/annex/objects/", "git-annex", "git annex get . (datalad get .)"),
)


def pointer_to(data: bytes) -> tuple[str, str] | None:
    """Say what made a pointer of these first bytes, and how to fetch the file; None for others."""
    for start, maker, command in _STARTS:
        if data.startswith(start):
            return maker, command
    return None
