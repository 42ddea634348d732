"""The board and its JetPack: the device tree, /etc/nv_tegra_release, dpkg's list."""

import platform
import re

from cropseg_edge.doctor.finding import Finding, Status
from cropseg_edge.doctor.system import System

# L4T (the first two numbers decide unless a third stands here) -> JetPack, TensorRT that it has.
# Sources: NVIDIA's JetPack archive and release notes.
JETPACKS = {
    (36, 2): ("6.0 DP", "8.6"),
    (36, 3): ("6.0", "8.6"),
    (36, 4): ("6.2.x", "10.3"),
    (36, 4, 0): ("6.1", "10.3"),
    (36, 4, 3): ("6.2", "10.3"),
    (36, 4, 4): ("6.2.1", "10.3"),
    (36, 5): ("6.2.2", "10.3"),
    (38, 2): ("7.0", "10.13"),
    (38, 4): ("7.1", "10.13"),
    (39, 2): ("7.2", "10.16"),
}
_RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+)(?:\.(\d+))?")


def board(system: System) -> Finding:
    """What computer this is."""
    model = system.read("/proc/device-tree/model")
    if model:
        jetson = "jetson" in model.lower() or system.read("/etc/nv_tegra_release") is not None
        return Finding("board", Status.OK, model, data={"model": model, "jetson": jetson})
    cpu = _processor(system) or platform.processor() or platform.machine()
    found = f"no device tree; {cpu}, {platform.machine()}"
    return Finding("board", Status.OK, found, data={"model": cpu, "jetson": False})


def jetpack(system: System) -> Finding:
    """L4T and JetPack, where this is a Jetson."""
    l4t = l4t_release(system)
    package = package_version(system, "nvidia-jetpack")
    if l4t is None:
        return Finding("jetpack", Status.ABSENT, "no /etc/nv_tegra_release: not a Jetson")
    known = JETPACKS.get(l4t) or JETPACKS.get(l4t[:2])
    name = package.partition("+")[0] or (known[0] if known else "")
    text = ".".join(map(str, l4t))
    data = {"l4t": text, "jetpack": name, "package": package, "tensorrt": known and known[1]}
    found = f"JetPack {name or 'unknown'} (L4T {text})"
    if not package:
        return Finding(
            "jetpack",
            Status.WARN,
            f"{found}; its libraries are not installed (no package nvidia-jetpack)",
            "sudo apt update && sudo apt install nvidia-jetpack",
            data=data,
        )
    if known is None:
        return Finding(
            "jetpack",
            Status.WARN,
            f"{found}; not a release that this version knows",
            "nothing to do unless another check complains; please report it with --json",
            data=data,
        )
    return Finding("jetpack", Status.OK, found, data=data)


def l4t_release(system: System) -> tuple[int, ...] | None:
    """L4T's version, such as (36, 4, 3); None on any other machine."""
    found = _RELEASE.search(system.read("/etc/nv_tegra_release") or "")
    return tuple(int(number) for number in found.groups("0")) if found else None


def package_version(system: System, name: str) -> str:
    """The version of an installed Debian package; empty if it is not installed."""
    paragraph = re.search(
        rf"^Package: {re.escape(name)}\n(?:.+\n?)*",
        system.read("/var/lib/dpkg/status") or "",
        re.MULTILINE,
    )
    if paragraph is None or not re.search(r"^Status: .* installed$", paragraph[0], re.MULTILINE):
        return ""
    found = re.search(r"^Version: (\S+)", paragraph[0], re.MULTILINE)
    return found[1] if found else ""


def _processor(system: System) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", system.read("/proc/cpuinfo") or "", re.MULTILINE)
    return found[1] if found else ""
