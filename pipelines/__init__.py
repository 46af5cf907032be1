"""The DVC stages, and what they run on."""
