"""The DVC stages, and what they run on."""

from pipelines.pinned import pin

pin()
