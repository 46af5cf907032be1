"""The command ``safs-bench``."""
