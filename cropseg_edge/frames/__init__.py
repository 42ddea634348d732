"""Where frames come from: images, folders, videos, cameras, ROS 2 bags, the field simulator."""

from cropseg_edge.frames.frame import Frame, FrameSource

__all__ = ["Frame", "FrameSource"]
