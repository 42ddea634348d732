"""The small root of labelled pictures that training's tests use."""

from tests.training.conftest import config_file, field_root

__all__ = ["config_file", "field_root"]
