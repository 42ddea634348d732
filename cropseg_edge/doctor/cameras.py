"""Cameras: which there are, whether this user may open them, who holds them."""

from typing import Any

from cropseg_edge.doctor.finding import Finding, Status
from cropseg_edge.doctor.system import System


def cameras(system: System) -> list[Finding]:
    """A finding for every video device that gives pictures; one that says so if there is none."""
    devices = [path for path in system.glob("/dev/video*") if path[len("/dev/video") :].isdecimal()]
    holders = _holders(system) if devices else {}
    found = [
        _camera(system, path, holders.get(path, []))
        for path in devices
        # A USB camera's second device carries its metadata, no pictures.
        if (system.number(f"{_folder(path)}/index") or 0) == 0
    ]
    return found or [Finding("cameras", Status.ABSENT, "no /dev/video*")]


def _camera(system: System, path: str, holders: list[str]) -> Finding:
    name = system.read(f"{_folder(path)}/name") or "unnamed"
    csi = name.startswith("vi-output")
    data: dict[str, Any] = {"device": path, "name": name, "csi": csi, "held_by": holders}
    check, found = "camera", f"{path} {name}"
    if not system.may(path):
        remedy = f"sudo usermod -aG video {system.user}   # then log in again"
        found += f"; {system.user} may not open it"
        return Finding(check, Status.WARN, found, remedy, data=data)
    if holders:
        remedy = "end that program, or read its pictures from there"
        return Finding(
            check, Status.WARN, f"{found}; held by {', '.join(holders)}", remedy, data=data
        )
    if csi:
        remedy = (
            "a CSI camera gives raw Bayer here; take it through the ISP: cropseg run "
            "'nvarguscamerasrc ! video/x-raw(memory:NVMM),width=1280,height=720 ! nvvidconv ! "
            "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
            "appsink drop=true max-buffers=1' --out out/csi"
        )
        return Finding(check, Status.OK, found, remedy, data=data)
    return Finding(check, Status.OK, found, data=data)


def _folder(path: str) -> str:
    return f"/sys/class/video4linux/{path.rpartition('/')[2]}"


def _holders(system: System) -> dict[str, list[str]]:
    """Device -> the programs that have it open, as far as this user may see them."""
    found: dict[str, list[str]] = {}
    for process in system.glob("/proc/[0-9]*"):
        links = {system.link(descriptor) for descriptor in system.glob(f"{process}/fd/*")}
        for target in links:
            if target.startswith("/dev/video"):
                name = system.read(f"{process}/comm") or "unknown"
                number = process.rpartition("/")[2]
                found.setdefault(target, []).append(f"{name} ({number})")
    return found
