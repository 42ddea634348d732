"""Where masks go: PNG masks, overlays, a table, a video, an MCAP bag, a summary and a report."""

from cropseg_edge.sinks.overlay import draw_overlay
from cropseg_edge.sinks.recording import RunRecorder
from cropseg_edge.sinks.sink import Sink

__all__ = ["RunRecorder", "Sink", "draw_overlay"]
