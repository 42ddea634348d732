"""Acceptance on this device: an engine's verdict and what it cost since, kept in its sidecar."""

import logging
from datetime import datetime, timezone

from cropseg_edge import __version__
from cropseg_edge.bundle import Bundle
from cropseg_edge.engines.acceptance import try_out
from cropseg_edge.engines.tensorrt.cache import CachedEngine, EngineCache
from cropseg_edge.engines.tensorrt.fingerprint import Verdict
from cropseg_edge.engines.tensorrt.path import TensorRtPath
from cropseg_edge.engines.tensorrt.platform import Platform
from cropseg_edge.errors import DeviceLostError, DeviceMemoryError, EngineError, ParityError
from cropseg_edge.fade.cuda.driver import kernels_sha256

log = logging.getLogger("cropseg_edge.engines.tensorrt")

MOST_LOSSES = 3  # of the GPU; each costs a new process


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
    path = TensorRtPath(platform, bundle, precision, engine.plan)
    lost = None
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
    judged = engine.sidecar.model_copy(update={"verdict": verdict, "losses": 0})
    try:
        platform.cache.update(bundle, precision, judged)
    except OSError as error:
        log.warning("the verdict on the %s engine cannot be kept: %s", precision, error)
    if lost is not None:
        raise lost
    return CachedEngine(engine.plan, judged)


def check_verdict(engine: CachedEngine) -> None:
    """Raise EngineError unless the engine was accepted, by this version and with its kernels."""
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
    try:
        sidecar = cache.sidecar(bundle, precision)
        if sidecar.engine_sha256 != engine.sidecar.engine_sha256:
            return  # it was built again meanwhile
        losses, verdict = sidecar.losses + 1, sidecar.verdict
        if verdict is not None and verdict.accepted and losses >= MOST_LOSSES:
            reason = f"the GPU was lost {losses} times since it was accepted: {cause}"
            verdict = _verdict(False, reason, verdict.iou, verdict.latency_ms)
        lost = sidecar.model_copy(update={"losses": losses, "verdict": verdict})
        cache.update(bundle, precision, lost)
    except (EngineError, OSError) as error:
        log.warning("the loss of the GPU with the %s engine is not recorded: %s", precision, error)


def quarantined(verdict: Verdict) -> str:
    """What to say of an engine that was not accepted."""
    return (
        f"it is quarantined since {verdict.time} ({verdict.reason}); "
        "`cropseg build --force` builds it again"
    )


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
