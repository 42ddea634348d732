"""cropseg_edge: a camera frame goes in, a crop mask that can be trusted comes out."""

__version__ = "0.1.0"
