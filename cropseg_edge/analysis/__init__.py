"""Masks in, what a controller or an agronomist asks of them out."""

from cropseg_edge.analysis.rows import Rows, find_rows

__all__ = ["Rows", "find_rows"]
