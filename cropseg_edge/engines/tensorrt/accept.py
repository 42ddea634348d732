"""Acceptance on this device: an engine's verdict and what it cost since, kept in its sidecar."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone

from cropseg_edge import __version__
from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.acceptance import try_out
from cropseg_edge.engines.tensorrt.cache import CachedEngine, EngineCache
from cropseg_edge.engines.tensorrt.fingerprint import Sidecar, Verdict
from cropseg_edge.engines.tensorrt.path import TensorRtPath
from cropseg_edge.engines.tensorrt.platform import Platform
from cropseg_edge.errors import DeviceLostError, DeviceMemoryError, EngineError, ParityError
from cropseg_edge.fade.cuda.driver import kernels_sha256

log = logging.getLogger("cropseg_edge.engines.tensorrt")

MOST_LOSSES = 3  # of the GPU, or of the process; each costs a new process
_START_S = 60.0  # other processes that open the same engine get so long


def accept(
    platform: Platform, bundle: Bundle, precision: str, engine: CachedEngine
) -> CachedEngine:
    """Try an engine on the golden frames and record what came out.

    An engine whose masks are wrong, or which fails while it runs, is quarantined: it is not used
    again until it is built again. One that cannot be loaded, or finds too little memory, gets no
    verdict.

    Returns:
        The engine with its verdict.

    Raises:
        EngineError: it cannot be loaded, or the memory ran out.
        DeviceLostError: it took the GPU down; the verdict is recorded.
    """
    lost = None
    with first_run(platform.cache, bundle, precision, engine):
        path = TensorRtPath(platform, bundle, precision, engine.plan)
        try:
            trial = try_out(bundle, path)
            verdict = _verdict(True, "", trial.iou, trial.latency_ms)
        except DeviceMemoryError:
            raise
        except (ParityError, EngineError) as error:
            verdict = _verdict(False, str(error), 0.0, 0.0)
            lost = error if isinstance(error, DeviceLostError) else None
        finally:
            path.close()
    judged = {"verdict": verdict, "losses": 0, "starts": 0}
    _record(platform.cache, bundle, precision, engine, lambda _: judged, "verdict on")
    if lost is not None:
        raise lost
    return CachedEngine(engine.plan, engine.sidecar.model_copy(update=judged))


@contextmanager
def first_run(
    cache: EngineCache, bundle: Bundle, precision: str, engine: CachedEngine
) -> Iterator[None]:
    """Around the loading and the first run of an engine: leaves a mark in the sidecar meanwhile.

    Where TensorRT ends the process instead of saying what is wrong, or the memory is so short that
    Linux does, the mark stays; with the third one `check_starts` calls the engine quarantined.
    """
    with ExitStack() as stack:
        try:  # two that start at once must not count each other's marks
            stack.enter_context(cache.lock(bundle, precision, timeout_s=_START_S))
        except (EngineError, OSError):  # it is being built again, or nothing can be kept here
            yield
            return
        _record(cache, bundle, precision, engine, lambda s: {"starts": s.starts + 1}, "start of")
        try:
            yield
        finally:
            _record(cache, bundle, precision, engine, lambda _: {"starts": 0}, "start of")


def check_starts(engine: CachedEngine) -> None:
    """Raise EngineError where an engine ended its process so often that it is not tried again."""
    if engine.sidecar.starts >= MOST_LOSSES:
        raise EngineError(
            f"it is quarantined: {engine.sidecar.starts} times in a row the process ended while "
            "the engine was loaded or first run; `cropseg build --force` builds it again"
        )


def check_verdict(engine: CachedEngine) -> None:
    """Raise EngineError unless the engine was accepted, by this version and with its kernels."""
    check_starts(engine)
    verdict = engine.sidecar.verdict
    if verdict is None:
        raise EngineError("it has not been tried on this device; run `cropseg verify`")
    if not verdict.accepted:
        raise EngineError(quarantined(verdict))
    if verdict.package != __version__:
        raise EngineError(
            f"it was accepted by cropseg-edge {verdict.package}, this is {__version__}; "
            "run `cropseg verify`"
        )
    if verdict.kernels != kernels_sha256():
        raise EngineError("it was accepted with other kernels; run `cropseg verify`")


def count_loss(
    cache: EngineCache, bundle: Bundle, precision: str, engine: CachedEngine, cause: str
) -> None:
    """Record that the GPU was lost with an accepted engine; the third time quarantines it.

    It never raises: what cannot be recorded is a warning.
    """

    def lost(sidecar: Sidecar) -> dict[str, object]:
        losses, verdict = sidecar.losses + 1, sidecar.verdict
        if verdict is not None and verdict.accepted and losses >= MOST_LOSSES:
            reason = f"the GPU was lost {losses} times since it was accepted: {cause}"
            verdict = _verdict(False, reason, verdict.iou, verdict.latency_ms)
        return {"losses": losses, "verdict": verdict}

    _record(cache, bundle, precision, engine, lost, "loss of the GPU with")


def judged_here(verdict: Verdict) -> bool:
    """Whether a verdict was given by this version of the package, with its kernels."""
    return verdict.package == __version__ and verdict.kernels == kernels_sha256()


def quarantined(verdict: Verdict) -> str:
    """What to say of an engine that was not accepted."""
    return (
        f"it is quarantined since {verdict.time} ({verdict.reason}); "
        "`cropseg build --force` builds it again"
    )


def _record(
    cache: EngineCache,
    bundle: Bundle,
    precision: str,
    engine: CachedEngine,
    change: Callable[[Sidecar], dict[str, object]],
    what: str,
) -> None:
    """Change the sidecar, unless the engine was built again meanwhile; never raises."""
    try:
        sidecar = cache.sidecar(bundle, precision)
        if sidecar.engine_sha256 == engine.sidecar.engine_sha256:
            cache.update(bundle, precision, sidecar.model_copy(update=change(sidecar)))
    except (EngineError, OSError) as error:
        log.warning("the %s the %s engine is not recorded: %s", what, precision, error)


def _verdict(accepted: bool, reason: str, iou: float, latency_ms: float) -> Verdict:
    return Verdict(
        accepted=accepted,
        reason=reason,
        iou=iou,
        latency_ms=latency_ms,
        package=__version__,
        kernels=kernels_sha256(),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
