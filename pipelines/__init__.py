"""What runs everything, from what lies on disk to the command line."""

from pipelines.pinned import pin

pin()
