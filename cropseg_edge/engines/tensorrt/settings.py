"""How an engine is built: the settings that a user may change, and that its fingerprint holds."""

from pydantic import BaseModel, ConfigDict, Field


class BuildSettings(BaseModel):
    """Settings of TensorRT's builder.

    Attributes:
        workspace_mb: scratch memory that a layer of the engine may use.
        max_memory_mb: device memory that the builder may use while it tries kernels; on a Jetson,
            where the memory is shared, this counts all that TensorRT needs. 0: TensorRT's own rule
            (three quarters of the memory).
        optimization_level: 0 builds fast, 5 searches long; 3 is TensorRT's default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace_mb: int = Field(512, ge=16, le=65536)
    max_memory_mb: int = Field(0, ge=0, le=1 << 20)
    optimization_level: int = Field(3, ge=0, le=5)
