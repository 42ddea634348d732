"""The errors of this package, one tree. Each says what was expected, what came, and what to do."""


class CropSegError(Exception):
    """Base of every error that this package raises on purpose; the command line exits with 2."""


class FrameError(CropSegError):
    """A frame or a frame source cannot be used: missing, truncated, too small, unknown encoding."""


class BundleError(CropSegError):
    """A model bundle is missing, damaged, tampered with or not understood."""


class EngineError(CropSegError):
    """An engine cannot be made or failed while it ran."""


class DeviceMemoryError(EngineError):
    """The GPU's memory ran out, which says nothing about the engine: with more it may run."""


class DeviceLostError(EngineError):
    """The GPU failed in a way that this process cannot recover from; a new process may."""


class ParityError(CropSegError):
    """Two implementations that must agree do not."""


class ConfigError(CropSegError):
    """A configuration value is unknown, of the wrong type or out of range."""


class StorageError(CropSegError):
    """A file cannot be written: the disk is full, or the folder is missing or not writable."""
