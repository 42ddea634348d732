"""Building a bundle's engines on this device: checked, locked, cached, tried, in this order."""

import errno
import hashlib
import logging
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.tensorrt.accept import (
    accept,
    check_starts,
    check_verdict,
    judged_here,
    quarantined,
)
from cropseg_edge.engines.tensorrt.build_process import ADVICE, Tick, build_in_process
from cropseg_edge.engines.tensorrt.cache import CachedEngine
from cropseg_edge.engines.tensorrt.device import available_memory_mb
from cropseg_edge.engines.tensorrt.fingerprint import Fingerprint, Sidecar, fingerprint
from cropseg_edge.engines.tensorrt.known_issues import known_issues
from cropseg_edge.engines.tensorrt.platform import MODULE, Platform
from cropseg_edge.engines.tensorrt.settings import BuildSettings
from cropseg_edge.errors import (
    BundleError,
    DeviceMemoryError,
    EngineError,
    StorageError,
)

log = logging.getLogger("cropseg_edge.engines.tensorrt")
Say = Callable[[str], None]

SMALL = BuildSettings(workspace_mb=128, max_memory_mb=2000, optimization_level=2)  # as in ADVICE
_FILES = 4  # sizes of the graph: itself, the engine twice, and what was measured
_BUILDER_MB = 1000  # what TensorRT itself takes, by rule of thumb; not measured on a board


def chain(bundle: Bundle) -> list[str]:
    """The precisions that the bundle has for TensorRT, smallest first: int8, fp16, fp32."""
    return list(reversed(bundle.manifest.precisions("tensorrt")))


def build_and_accept(
    platform: Platform,
    bundle: Bundle,
    precisions: Collection[str] = (),
    settings: BuildSettings | None = None,
    *,
    force: bool = False,
    must_keep: bool = False,
    say: Say = log.info,
    tick: Tick | None = None,
) -> dict[str, CachedEngine]:
    """Build the engines of a bundle and try each on the golden frames.

    Args:
        precisions: which; none: INT8 and FP16 where the bundle has them, and FP32 only where
            neither of them is accepted.
        settings: of the builder; None takes an engine that is there whatever its settings, and
            builds with the defaults.
        force: build what is there already, too.
        must_keep: an engine or a verdict that cannot be stored is an error, not a warning.
        say: called with what happened, line by line.
        tick: called about once a second during a build.

    Returns:
        The accepted engines by precision; what failed was said. Where a build fails, an engine
        that was accepted before stays.

    Raises:
        BundleError: the bundle has no graph of a precision, or no golden frames.
        StorageError: with `must_keep`, an engine or its verdict cannot be stored.
    """
    for precision in precisions:
        bundle.graph("tensorrt", precision)
    if not bundle.manifest.golden:
        raise BundleError(
            f"{bundle.path.name} has no golden frames to try engines on: export it again with some"
        )
    wanted = [p for p in chain(bundle) if p in precisions]
    first = wanted or [p for p in chain(bundle) if p != "fp32"]
    accepted: dict[str, CachedEngine] = {}
    for group in (first, [] if wanted else ["fp32"]):
        if accepted:
            break
        built: dict[str, CachedEngine] = {}
        for precision in group:
            try:
                built[precision] = build_engine(
                    platform, bundle, precision, settings,
                    force=force, must_keep=must_keep, say=say, tick=tick,
                )  # fmt: skip
            except (EngineError, BundleError) as error:
                say(f"{precision}: {error}")
                if (before := _accepted_before(platform, bundle, precision)) is not None:
                    say(f"{precision}: the engine built {before.sidecar.built} stays")
                    built[precision] = before
        for precision, engine in built.items():
            judged = try_engine(platform, bundle, precision, engine, say, must_keep=must_keep)
            if judged is not None:
                accepted[precision] = judged
    return accepted


def try_engine(
    platform: Platform,
    bundle: Bundle,
    precision: str,
    engine: CachedEngine,
    say: Say,
    *,
    must_keep: bool = False,
) -> CachedEngine | None:
    """Run the golden frames, say what came out; None unless accepted; see `accept`.

    Raises:
        StorageError: with `must_keep`, that it was accepted cannot be recorded.
    """
    verdict = engine.sidecar.verdict
    if verdict is not None and not verdict.accepted and judged_here(verdict):
        say(f"{precision}: {quarantined(verdict)}")
        return None
    try:
        check_starts(engine)
    except EngineError as error:
        say(f"{precision}: not tried: {error}")
        return None
    try:
        judged = accept(platform, bundle, precision, engine, must_keep=must_keep)
    except DeviceMemoryError as error:
        say(f"{precision}: not tried: {error}; then `cropseg verify` tries it")
        return None
    except EngineError as error:
        say(
            f"{precision}: not tried: {error}. If it comes again with memory to spare: "
            f"`cropseg build --force --precision {precision}`"
        )
        return None
    verdict = judged.sidecar.verdict
    assert verdict is not None
    if not verdict.accepted:
        say(f"{precision}: quarantined: {verdict.reason}")
        return None
    say(
        f"{precision}: accepted: mask IoU at least {verdict.iou:.4f} on "
        f"{len(bundle.manifest.golden)} golden frames, {verdict.latency_ms:.1f} ms a frame"
    )
    return judged


def build_engine(
    platform: Platform,
    bundle: Bundle,
    precision: str,
    settings: BuildSettings | None,
    *,
    force: bool = False,
    must_keep: bool = False,
    say: Say = log.info,
    tick: Tick | None = None,
) -> CachedEngine:
    """Build one engine, or take the cached one that will do; see `build_and_accept`.

    Raises:
        EngineError: the memory is too small, the build failed, or another process holds the lock.
        BundleError: there is no such graph, or TensorRT refuses it.
        StorageError: with `must_keep`, the engine cannot be stored.
    """
    any_settings, settings = settings is None, settings or BuildSettings()
    here = fingerprint(bundle, precision, platform.trt.__version__, platform.device, settings)
    with ExitStack() as stack:
        try:
            waiting = f"{precision}: another process builds this engine; waiting for it"
            stack.enter_context(platform.cache.lock(bundle, precision, lambda: say(waiting)))
        except OSError as error:
            _cannot_keep(error, must_keep)
            keep = False
        else:
            keep = _may_keep(platform, must_keep)
        if not force:
            try:
                return _cached(platform, bundle, precision, here, any_settings)
            except EngineError as error:
                say(f"{precision}: to be built: {error}")
        graph = bundle.graph("tensorrt", precision)
        for issue in known_issues(platform.trt.__version__, precision, graph):
            say(f"{precision}: known problem {issue.name}: {issue.symptom} ({issue.sources[0]})")
        _check_memory(settings, len(graph))
        started = time.monotonic()
        timing = platform.cache.timing_cache()
        folder = None
        if keep:
            try:
                made = platform.cache.build_folder(bundle, precision, _FILES * len(graph))
                folder = Path(stack.enter_context(made))
            except (OSError, EngineError) as error:
                log.warning("the %s engine is built in a temporary folder: %s", precision, error)
        built = build_in_process(MODULE, graph, settings, timing, tick, folder)
        seconds = time.monotonic() - started
        sidecar = Sidecar(
            fingerprint=here,
            engine_sha256=hashlib.sha256(built.plan).hexdigest(),
            built=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            build_seconds=round(seconds, 1),
        )
        say(f"{precision}: built in {seconds:.0f} s, {len(built.plan) / 1e6:.1f} MB")
        if keep:
            try:
                platform.cache.store(bundle, precision, built.plan, sidecar)
            except OSError as error:
                _cannot_keep(error, must_keep)
            try:  # without it the next build takes longer
                platform.cache.store_timing_cache(built.timing_cache)
            except OSError as error:
                log.warning("what the build measured is not kept: %s", error.strerror or error)
        return CachedEngine(built.plan, sidecar)


def _cached(
    platform: Platform, bundle: Bundle, precision: str, here: Fingerprint, any_settings: bool
) -> CachedEngine:
    cached = platform.cache.read(bundle, precision, here)
    differences = here.differences(cached.sidecar.fingerprint)
    if differences and not any_settings:
        raise EngineError(f"the settings differ: {'; '.join(differences)}")
    return cached


def _accepted_before(platform: Platform, bundle: Bundle, precision: str) -> CachedEngine | None:
    """The engine that may be used though its build failed now."""
    version, device = platform.trt.__version__, platform.device
    try:
        here = fingerprint(bundle, precision, version, device, BuildSettings())
        cached = platform.cache.read(bundle, precision, here)
        check_verdict(cached)
    except (EngineError, BundleError):
        return None
    return cached


def _needed_mb(settings: BuildSettings, graph_bytes: int) -> int:
    rule = settings.workspace_mb + _BUILDER_MB + 4 * (graph_bytes >> 20)
    return min(rule, settings.max_memory_mb or rule)


def _check_memory(settings: BuildSettings, graph_bytes: int) -> None:
    free = available_memory_mb()
    needed = _needed_mb(settings, graph_bytes)
    if free is None or free >= needed:
        return
    small = _needed_mb(SMALL, graph_bytes) <= free
    raise EngineError(
        f"the build may need {needed} MB of memory and {free} MB are free, swap on disk included; "
        f"{ADVICE if small else 'close other programs or add swap: `cropseg doctor` says how'}"
    )


def _may_keep(platform: Platform, must_keep: bool) -> bool:
    """Whether what is stored would be read again. Raises StorageError: it must, and would not."""
    try:
        platform.cache.check_owner()
    except EngineError as error:
        if must_keep:
            raise StorageError(f"engines cannot be kept: {error}") from error
        log.warning("engines cannot be kept: %s", error)
        return False
    return True


def _cannot_keep(error: OSError, must_keep: bool) -> None:
    full = "free some space there, or " if error.errno == errno.ENOSPC else ""
    text = (
        f"engines cannot be kept in {error.filename or 'the cache'} ({error.strerror or error}); "
        f"{full}set XDG_CACHE_HOME to a folder that can be written"
    )
    if must_keep:
        raise StorageError(text) from error
    log.warning("%s; the engine is built anew each time", text)
