"""How fast a bundle is on this machine: frames go in, percentiles by stage come out."""

from cropseg_edge.benchmark.run import SOURCE, benchmark, load_frames
from cropseg_edge.benchmark.table import comparison, table

__all__ = ["SOURCE", "benchmark", "comparison", "load_frames", "table"]
