"""One training: its images, its start, its loop, and what it is scored by."""
