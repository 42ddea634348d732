"""Memory for building an engine, and room for keeping it."""

from pathlib import Path

from cropseg_edge.doctor.finding import Finding, Status
from cropseg_edge.doctor.system import System

# A build of TensorRT holds the graph, the candidates and their workspace at once. With less than
# this it may be killed on an 8 GB board whose desktop runs; with swap it is slow instead.
BUILD_MB = 3000
CACHE_MB = 1000
# By what is said of the engines, none of which may be used; the first that fits.
_REMEDIES = {
    "not tried": "cropseg verify",
    "`cropseg verify`": "cropseg verify",
    "quarantined": "cropseg build --force",
    "": "cropseg build",
}
_MANY = 8200  # MB: from here on a board has memory to spare


def memory(system: System) -> Finding:
    """Memory that is free, and swap."""
    figures = {}
    for line in (system.read("/proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        number = value.strip().partition(" ")[0]
        if number.isdecimal():
            figures[key] = int(number) // 1024
    if "MemAvailable" not in figures:
        return Finding("memory", Status.ABSENT, "/proc/meminfo cannot be read")
    total, free = figures.get("MemTotal", 0), figures["MemAvailable"]
    files = _disk_swap(system)
    swap = sum(files.values())
    found = f"{free} of {total} MB free, {swap} MB of swap on disk"
    data = {"total_mb": total, "available_mb": free, "swap_mb": swap}
    if _builds(system) and (free < BUILD_MB or (total < _MANY and swap < BUILD_MB)):
        remedy = (
            "before `cropseg build`: close the desktop (sudo systemctl isolate multi-user.target)"
        )
        if swap < BUILD_MB:
            file = "/swapfile2" if "/swapfile" in files else "/swapfile"  # not one that is in use
            remedy += (
                ", and add swap:\n"
                "sudo systemctl disable --now nvzramconfig   # compressed memory is no help here\n"
                f"sudo fallocate -l 8G {file} && sudo chmod 600 {file} && "
                f"sudo mkswap {file} && sudo swapon {file}"
            )
        return Finding("memory", Status.WARN, found, remedy, data=data)
    return Finding("memory", Status.OK, found, data=data)


def _builds(system: System) -> bool:
    return system.read("/etc/nv_tegra_release") is not None


def _disk_swap(system: System) -> dict[str, int]:
    """MB of each file and partition with swap; zram is memory and does not count."""
    rows = [line.split() for line in (system.read("/proc/swaps") or "").splitlines()[1:]]
    return {
        row[0]: int(row[2]) // 1024
        for row in rows
        if len(row) > 2 and row[2].isdecimal() and "zram" not in row[0]
    }


def engines(system: System) -> list[Finding]:
    """Room in the folder where built engines are kept, and the engines that are there."""
    answer = system.probe("engines")
    if "error" in answer:
        return [Finding("engines", Status.WARN, answer["error"], "see `bundle`", data=answer)]
    found = [_disk(system, answer["folder"])]
    built = answer["engines"]
    if built:
        text = "; ".join(f"{precision} {state}" for precision, state in built.items())
        usable = any(state.startswith("accepted") for state in built.values())
        remedy = "" if usable else next(r for said, r in _REMEDIES.items() if said in text)
        status = Status.OK if usable else Status.WARN
        return [*found, Finding("engines", status, text, remedy, data=answer)]
    status = Status.WARN if _builds(system) else Status.ABSENT
    remedy = "cropseg build" if _builds(system) else ""
    text = "none of the shipped bundle yet; ONNX Runtime on the CPU does the work"
    return [*found, Finding("engines", status, text, remedy, data=answer)]


def _disk(system: System, folder: str) -> Finding:
    if not folder:
        remedy = "export XDG_CACHE_HOME=/a/folder/that/can/be/written"
        return Finding("disk", Status.WARN, "no home: engines cannot be kept", remedy)
    free = system.free_bytes(Path(folder))
    if free is None:
        return Finding("disk", Status.WARN, f"{folder}: cannot be looked at", f"ls -ld {folder}")
    megabytes = free // 1_000_000
    data = {"folder": folder, "free_mb": megabytes}
    found = f"{megabytes / 1000:.1f} GB free for engines in {folder}"
    if megabytes < CACHE_MB:
        remedy = (
            f"engines and their timing cache take up to {CACHE_MB} MB: free some, or "
            "export XDG_CACHE_HOME=/another/disk"
        )
        return Finding("disk", Status.WARN, found, remedy, data=data)
    return Finding("disk", Status.OK, found, data=data)
