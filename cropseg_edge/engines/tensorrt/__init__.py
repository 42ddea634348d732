"""The engine on the robot: built on the device, cached under a fingerprint, used once accepted."""
