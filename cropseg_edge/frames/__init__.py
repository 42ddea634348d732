"""Where frames come from: images, folders, videos, cameras, ROS 2 bags, the field simulator."""

from cropseg_edge.frames.frame import Frame, FrameSource
from cropseg_edge.frames.open import open_source

__all__ = ["Frame", "FrameSource", "open_source"]
