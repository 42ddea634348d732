"""The FADE upsampler after the engine, and decoding of its probabilities into a mask."""

from cropseg_edge.fade.stage import Affine, Decoded, decode, fade_probabilities, fade_upsample

__all__ = ["Affine", "Decoded", "decode", "fade_probabilities", "fade_upsample"]
