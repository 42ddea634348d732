"""Process: one node from start to a clean end on SIGINT or SIGTERM, within three seconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from cropseg_edge.errors import CropSegError

_EXIT_WITHIN_S = 2.5
_WAKE_S = 0.2


class Closable(Protocol):
    """A node that frees what it holds."""

    def close(self) -> bool:
        """Returns False if a thread hangs and the process must be ended the hard way."""
        ...


N = TypeVar("N", bound=Closable)


def run(
    make_node: Callable[[], N],
    *,
    start: Callable[[N], None] = lambda node: None,
    finished: Callable[[N], bool] = lambda node: False,
    afterwards: Callable[[N], None] = lambda node: None,
    interrupted: Callable[[], int] = lambda: 1,
) -> int:
    """Spin a node until a signal comes or it has finished.

    Args:
        make_node: called once ROS is up.
        start: called with the node before it spins.
        finished: asked between callbacks; True ends the process.
        afterwards: called with the node after it has closed, outside the three seconds.
        interrupted: called, in a thread of its own, where `start` or a callback goes on for too
            long after a signal; the process then ends with the exit code that it returns.

    Returns:
        The exit code: 0, or 2 if a `CropSegError` or a refused parameter ended it and no signal
        had come. A process whose node hangs while it is closed ends with 1.
    """
    stop, closing = threading.Event(), threading.Event()

    def end_hard() -> None:
        os._exit(1 if closing.is_set() else interrupted())

    hard_end = threading.Timer(_EXIT_WITHIN_S, end_hard)
    hard_end.daemon = True

    def on_signal(number: int, frame: object) -> None:
        if not stop.is_set():
            stop.set()
            hard_end.start()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node()
        start(node)
        _spin(node, lambda: stop.is_set() or finished(node))
        closing.set()
        if not node.close():
            sys.stderr.flush()
            os._exit(1)
        hard_end.cancel()
        afterwards(node)
        return 0
    except (CropSegError, ParameterException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 0 if stop.is_set() else 2  # told to end: what it interrupted is no failure
    finally:
        hard_end.cancel()
        rclpy.try_shutdown()


def _spin(node: object, done: Callable[[], bool]) -> None:
    assert isinstance(node, Node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while rclpy.ok() and not done():
        executor.spin_once(timeout_sec=_WAKE_S)
    executor.shutdown(timeout_sec=0)
