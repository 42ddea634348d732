"""SimulatorSource: `simulator:species=maize,...` as a source of frames with ground truth."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cropseg_edge.errors import ConfigError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.simulator.field import FieldSimulator

PREFIX = "simulator:"


class SimulatorSpec(BaseModel):
    """What may stand behind `simulator:`, as KEY=VALUE separated by commas."""

    model_config = ConfigDict(extra="forbid")

    species: str = "maize"
    condition: str = "sun"
    camera: str = "oblique"
    seed: int = Field(0, ge=0)
    frames: int = Field(200, ge=1)
    width: int = Field(640, ge=16, le=8192)
    height: int = Field(480, ge=16, le=8192)
    rate_hz: float = Field(10.0, gt=0)
    speed_m_s: float = 0.5


def parse_spec(spec: str) -> SimulatorSpec:
    """Reads `simulator:` or `simulator:species=maize,seed=3,frames=200`.

    Raises:
        ConfigError: a part is not KEY=VALUE, a key is unknown or a value out of range.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, spec.removeprefix(PREFIX).split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"simulator source: expected KEY=VALUE, got '{part}'")
        pairs[key.strip()] = value.strip()
    unknown = sorted(set(pairs) - set(SimulatorSpec.model_fields))
    if unknown:
        known = ", ".join(SimulatorSpec.model_fields)
        raise ConfigError(f"simulator source: unknown key '{unknown[0]}'; known are {known}")
    try:
        return SimulatorSpec.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"simulator source: {first['loc'][0]}={first['input']}: {first['msg']}"
        ) from error


class SimulatorSource:
    """Frames of a simulated drive; `Frame.truth` holds the labels.

    Args:
        spec: see `parse_spec`.

    Raises:
        ConfigError: the spec is not understood.
    """

    def __init__(self, spec: str = PREFIX) -> None:
        chosen = parse_spec(spec)
        self.name = "simulator"
        self.rate_hz: float | None = chosen.rate_hz
        self.failed = 0
        self.frames = chosen.frames
        self.simulator = FieldSimulator(**chosen.model_dump(exclude={"frames"}))

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frames):
            seen = self.simulator.render(index)
            yield Frame(
                seen.image, seen.stamp_ns, "camera_optical", index, f"{index:06d}", seen.labels
            )

    def close(self) -> None:
        """Nothing is held open."""
