"""Transport: the environment in which large images travel between processes without loss.

With these variables a 1080p image takes 5 ms from process to process instead of 18 to 55, and none
is lost (docs/ros2.md has the table). They must be set before a process starts.
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

_MIB = 1 << 20


def fastdds_profile() -> Path:
    """The Fast DDS profile (shared memory with large segments), of the checkout or installed."""
    checkout = Path(__file__).parents[1] / "config" / "fastdds.xml"
    if checkout.exists():
        return checkout
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("cropseg_ros")) / "config" / "fastdds.xml"


def environment() -> dict[str, str]:
    """Variables for every process that sends or receives images."""
    profile = str(fastdds_profile())
    return {
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,  # to Jazzy
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,  # from Kilted on
        # glibc returns freed 6 MB blocks to the system; the page faults of getting them anew are
        # most of an image's latency.
        "MALLOC_MMAP_THRESHOLD_": str(256 * _MIB),
        "MALLOC_TRIM_THRESHOLD_": str(512 * _MIB),
        "MALLOC_TOP_PAD_": str(64 * _MIB),
    }


def private_graph() -> dict[str, str]:
    """Variables of a graph that nobody else on the network or on this computer sees."""
    # Up to 101, a domain's ports lie below those that Linux hands out to other programs.
    domains = random.sample(range(1, 102), 101)
    variables = {
        "ROS_DOMAIN_ID": str(next(filter(_unused, domains), domains[0])),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    if os.environ.get("ROS_DISTRO") == "humble":
        variables["ROS_LOCALHOST_ONLY"] = "1"
    return variables


def _unused(domain: int) -> bool:
    """Whether no participant on this computer has the domain's first port (RTPS 2.3, 9.6.1)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        try:
            port.bind(("", 7410 + 250 * domain))
        except OSError:
            return False
    return True
