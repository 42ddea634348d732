"""segmentation_node: a lifecycle node; camera images in, crop masks with a status out."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import cast

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from cropseg_edge.bundle.verify import check_golden
from cropseg_edge.engines.choice import EngineChoice
from cropseg_edge.engines.tensorrt.accept import forget_starts
from cropseg_edge.errors import CropSegError, DeviceLostError
from cropseg_edge.segmenter import Segmenter
from cropseg_ros.outputs import Outputs
from cropseg_ros.parameters import Settings, declare, read, refusal
from cropseg_ros.process import run
from cropseg_ros.stream import Stream

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
EXIT_LOST = 70  # EX_SOFTWARE: the launch file starts the node again
Transition = Callable[["SegmentationNode", LifecycleState], TransitionCallbackReturn]


def _told(transition: Transition) -> Transition:
    """Log what a transition raises; rclpy keeps it to itself and goes on with on_error."""

    @wraps(transition)
    def run(node: SegmentationNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(traceback.format_exc())
            raise

    return run


class SegmentationNode(LifecycleNode):
    """configure loads and tries the model, activate starts the stream, cleanup frees it all."""

    def __init__(self) -> None:
        super().__init__("segmentation_node")
        self._segmenter: Segmenter | None = None
        self._outputs: Outputs | None = None
        self._stream: Stream | None = None
        self.hangs = False
        self._lost = ""
        self.add_on_set_parameters_callback(self._on_set)
        declare(self)

    def autostart(self) -> None:
        """Configure and activate, if the parameter asks for it.

        Raises:
            CropSegError: it failed; the reason is in the log.
        """
        if not self.get_parameter("autostart").value:
            return
        done = self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS
        if not done and not self.lost:
            raise CropSegError("autostart failed; see the log above")

    def _LifecycleNodeMixin__change_state(self, transition: int) -> TransitionCallbackReturn:
        """Refuse a transition that the state does not allow.

        rclpy's own, which this overrides, ends the process up to Jazzy (ros2/rclpy#1209).
        """
        possible = {row[0]: row[1] for row in self._state_machine.available_transitions}
        if transition in possible:
            return super()._LifecycleNodeMixin__change_state(transition)
        state = self._state_machine.current_state[1]
        self.get_logger().error(
            f"transition {transition} refused: in state {state} there are "
            + ", ".join(f"{name} ({number})" for number, name in possible.items())
        )
        return FAILURE

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the bundle, open the engine, and run the golden frames through it."""
        settings = read(self)
        try:
            segmenter = _open(settings, self.get_logger().warning)
        except CropSegError as error:
            self.get_logger().error(f"configure failed: {error}")
            if isinstance(error, DeviceLostError):
                self._end(str(error))
            return FAILURE
        engine = f"{segmenter.engine.name} {segmenter.engine.precision}"
        sha256 = segmenter.bundle.sha256
        self._segmenter = segmenter
        self._outputs = Outputs(self, sha256, engine)
        name = segmenter.bundle.manifest.name
        self.get_logger().info(f"bundle {name} ({sha256[:12]}) on {engine}")
        # What lives as long as the node need not be searched for garbage: that takes 20 ms.
        gc.collect()
        gc.freeze()
        return SUCCESS

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and publish from now on."""
        assert self._segmenter is not None
        assert self._outputs is not None
        self._stream = Stream(self, read(self), self._segmenter, self._outputs)
        self.get_logger().info(f"active on {self._stream.topic}")
        return SUCCESS

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish no more."""
        return SUCCESS if self._stop_stream() else TransitionCallbackReturn.ERROR

    @_told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self._free()
        return SUCCESS

    @_told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from whichever state."""
        self.close()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed in an unforeseen way: free everything and be unconfigured."""
        self.get_logger().error("a lifecycle transition failed; the node is unconfigured now")
        return SUCCESS if self.close() else FAILURE

    def close(self) -> bool:
        """Stop and free everything. Returns False if a thread hangs."""
        self._stop_stream()
        self._free()
        return not self.hangs

    @property
    def lost(self) -> str:
        """Why this process must end, to be started anew; empty as long as it need not."""
        if not self._lost and self._segmenter is not None and self._segmenter.lost:
            self._end(self._segmenter.lost)
        if not self._lost and self._stream is not None and self._stream.dead:
            self._end("a thread of the stream died")
        return self._lost

    def _end(self, reason: str) -> None:
        self._lost = reason
        if self._outputs is not None:
            self._outputs.diagnostics.publish()
        self.get_logger().fatal(f"this process ends, to be started anew: {reason}")

    def _stop_stream(self) -> bool:
        stream, self._stream = self._stream, None
        if stream is not None and not stream.stop():
            self.hangs = True
            self.get_logger().fatal("the engine hangs; this process ends, to be started anew")
        return not self.hangs

    def _free(self) -> None:
        if self.hangs:  # a thread still uses what would be freed
            return
        if self._segmenter is not None:
            self._segmenter.close()
        if self._outputs is not None:
            self._outputs.close()
        self._segmenter = self._outputs = None
        gc.unfreeze()

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        configured = self._segmenter is not None
        for parameter in parameters:
            reason = refusal(parameter.name, parameter.value, configured=configured)
            if reason:
                self.get_logger().warning(f"parameter refused: {reason}")
                return SetParametersResult(successful=False, reason=reason)
        if self._stream is not None:
            known = vars(self._stream.settings)
            changed = {p.name: p.value for p in parameters if p.name in known}
            self._stream.apply(replace(self._stream.settings, **changed))
        return SetParametersResult(successful=True)


def _open(settings: Settings, warn: Callable[[str], object]) -> Segmenter:
    """A segmenter that gave the golden masks on this device; with `auto`, the CPU's where an
    accepted TensorRT engine does not give them any more. Raises CropSegError."""
    segmenter = Segmenter(
        Path(settings.bundle).expanduser() if settings.bundle else None,
        threads=settings.threads or None,
        engine=cast(EngineChoice, settings.engine),
        precision=settings.precision or None,
        build_if_missing=settings.build_if_missing,
    )
    try:
        check_golden(segmenter.bundle, segmenter)
    except CropSegError as error:
        segmenter.close()
        on_the_gpu = segmenter.engine.name == "tensorrt"
        if settings.engine != "auto" or not on_the_gpu or isinstance(error, DeviceLostError):
            raise
        warn(f"ONNX Runtime on the CPU is used: {error}; `cropseg verify` tells more")
        return _open(replace(settings, engine="onnxruntime", precision=""), warn)
    return segmenter


def _interrupted() -> int:
    """The exit code where a signal comes while a model is loaded, which is no failure of it."""
    forget_starts()
    return 0


def main() -> None:
    """Entry point of the executable: 0, 2 after an error, 70 where GPU or a thread was lost."""
    lost: list[str] = []
    code = run(
        SegmentationNode,
        start=SegmentationNode.autostart,
        finished=lambda node: node.hangs or bool(node.lost),
        afterwards=lambda node: lost.append(node.lost),
        interrupted=_interrupted,
    )
    sys.exit(EXIT_LOST if any(lost) else code)


if __name__ == "__main__":
    main()
