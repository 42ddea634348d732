"""A document of figures as text for people, and two of them side by side."""

from typing import Any

from cropseg_edge.benchmark.figures import KEYS, LEAST_FRAMES, change
from cropseg_edge.errors import ConfigError

Document = dict[str, Any]


def table(document: Document) -> str:
    """The measurement as text: on what, how, the stages, the board's state, the verdict."""
    measured, source = document["measured"], document.get("source", {})
    lines = [*_head(document), ""]
    lines.append(f"{'':<12}" + "".join(f"{key:>9}" for key in KEYS) + "  ms")
    for stage, figures in measured["latency_ms"].items():
        lines.append(f"{stage:<12}" + "".join(f"{figures[key]:>9.1f}" for key in KEYS))
    if parts := measured["p50_of_fifths_ms"]:
        drift = ", ".join(f"{part:.1f}" for part in parts)
        lines.append(f"over time    end to end, p50 of each fifth of the run: {drift} ms")
    warmed = document["warm_up"]
    if end := warmed["latency_ms"].get("end to end"):
        lines.append(
            f"warm-up      {warmed['frames']} frames before that, not counted above: "
            f"p50 {end['p50']:.1f}, max {end['max']:.1f} ms"
        )
    if "released" in measured:
        lines.append(
            f"deadlines    {measured['deadline_ms']:.0f} ms; of {measured['released']} frames "
            f"{measured['skipped']} skipped for a newer one, {measured['late']} late"
        )
    counts = ", ".join(f"{count} {name}" for name, count in measured["status"].items() if count)
    lines.append(f"masks        {counts}")
    lines += [f"  {count} x {reason}" for reason, count in measured["reasons"].items()]
    lines += _board(document)
    if source.get("note"):
        lines.append(f"not counted  {source['note']}")
    return "\n".join([*lines, document["verdict"]])


def _head(document: Document) -> list[str]:
    machine, source = document["machine"], document.get("source", {})
    bundle, engine = document["bundle"], document["engine"]
    jetpack = f", JetPack {machine['jetpack']} (L4T {machine['l4t']})" if machine["l4t"] else ""
    rate = document["rate_hz"]
    how = f"released at {rate:g} Hz, only the latest waits" if rate else "one after the other"
    size = f"{source['width']}x{source['height']}" if source else ""
    return [
        f"board        {machine['board']}{jetpack}, "
        f"power mode {machine['power_mode'] or 'not told'}",
        f"engine       {engine['name']} {engine['precision']}, "
        f"{bundle['name']} {bundle['sha256'][:12]}",
        f"frames       {document['measured']['frames']} of {source.get('name', 'memory')} {size}, "
        f"{how}, {document['date']}",
    ]


def _board(document: Document) -> list[str]:
    lines = []
    for name in ("before", "after"):
        state = document[name]
        parts = [
            f"{clock} {figures['mhz']:.0f}/{figures['max_mhz']:.0f} MHz"
            for clock, figures in state["clocks"].items()
        ]
        if state["load"] is not None:
            parts.insert(0, f"load {state['load']:.1f}")
        if state["celsius"]:
            zone, hottest = max(state["celsius"].items(), key=lambda item: item[1])
            parts.append(f"{hottest:.0f} °C ({zone})")
        if parts:
            lines.append(f"{name:<12} {', '.join(parts)}")
    for rail, figures in document["watts"].items():
        lines.append(f"{rail:<12} {figures['mean']:.1f} W mean, {figures['max']:.1f} W max")
    if not document["watts"]:
        lines.append("watts        not told by this board")
    lines.append(
        f"process      {document['resident_mb_max']} MB of memory at most (a GPU's not counted), "
        f"{document['available_mb_min']} MB left, {document['cpu_cores']} CPU cores busy"
    )
    load, cpus = document["before"]["load"], document["machine"]["cpus"]
    if load is not None and load > cpus:
        lines.append(
            f"busy         other programs wanted {load:.1f} of {cpus} CPU cores: measure again"
        )
    return lines


def comparison(first: Document, second: Document, names: tuple[str, str]) -> str:
    """Two measurements, p50 and p99 by stage, and how many times the second is as fast.

    Raises:
        ConfigError: a document is not one of `cropseg bench --json`.
    """
    try:
        lines = [
            f"{letter}  {name}: {each['machine']['board']}, {each['engine']['name']} "
            f"{each['engine']['precision']}, {each['bundle']['name']} "
            f"{each['bundle']['sha256'][:12]}, {each['versions']['cropseg_edge']}"
            for letter, name, each in zip("AB", names, (first, second), strict=True)
        ]
        stages = first["measured"]["latency_ms"], second["measured"]["latency_ms"]
        lines.append(
            f"{'':<12}" + "".join(f"{key:>9}" for key in ("A p50", "B p50", "A/B"))
            + "".join(f"{key:>9}" for key in ("A p99", "B p99", "A/B"))
        )  # fmt: skip
        for stage in [stage for stage in stages[0] if stage in stages[1]]:
            cells = ""
            for key in ("p50", "p99"):
                a, b = stages[0][stage][key], stages[1][stage][key]
                cells += f"{a:>9.1f}{b:>9.1f}" + (f"{a / b:>9.2f}" if b else f"{'-':>9}")
            lines.append(f"{stage:<12}{cells}")
        lines += [f"A  {first['verdict']}", f"B  {second['verdict']}"]
        parts = [each["measured"].get("p50_of_fifths_ms") for each in (first, second)]
        said = change(*parts) if all(parts) else f"no verdict on runs under {LEAST_FRAMES} frames"
        lines.append(f"end to end   {said}")
        return "\n".join(lines)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{names[0]} and {names[1]} must be files that `cropseg bench --json` wrote; "
            f"in one of them {_wrong(error)}"
        ) from error


def _wrong(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else f"a value is wrong: {error}"
