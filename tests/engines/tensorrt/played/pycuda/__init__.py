"""pycuda, played by the CPU."""
