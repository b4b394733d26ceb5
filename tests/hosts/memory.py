"""The memory limit of a container, tightened until the system kills what is largest in it."""

import json
import re
from pathlib import Path

from containers import podman

CGROUPS = Path("/sys/fs/cgroup")
ROOM_BYTES = 8_000_000  # less than a case needs


class Memory:
    """The limit of one container, and how often the system killed a process for it."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.limit_bytes = int(self._inspect()["HostConfig"]["Memory"])
        cgroup = Path(f"/proc/{self._inspect()['State']['Pid']}/cgroup").read_text()
        old = re.search(r"^\d+:memory:/(.*)$", cgroup, re.M)
        new = re.search(r"^0::/(.*)$", cgroup, re.M)
        assert old or new
        self.folder = CGROUPS / "memory" / old[1] if old else CGROUPS / new[1]

    def _inspect(self) -> dict:
        return json.loads(podman("inspect", self.container))[0]

    def tighten(self) -> None:
        """Leave its processes a little more than they have."""
        text = (self.folder / "memory.stat").read_text()
        (used,) = re.search(r"^(?:total_rss|anon) (\d+)$", text, re.M).groups()
        self._limit(int(used) + ROOM_BYTES)

    def relax(self) -> None:
        """Give them what they had."""
        self._limit(self.limit_bytes)

    def _limit(self, limit_bytes: int) -> None:
        podman("update", "--memory", limit_bytes, self.container)

    def kills(self) -> int:
        """Count the processes that the system has killed."""
        for name in ("memory.oom_control", "memory.events"):
            if (self.folder / name).exists():
                text = (self.folder / name).read_text()
                return int(re.search(r"^oom_kill (\d+)$", text, re.M)[1])
        raise AssertionError(self.folder)
