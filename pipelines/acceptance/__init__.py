"""The acceptance run for a machine with a CUDA device: ``safs-bench check-gpu``."""
