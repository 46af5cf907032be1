"""Running a profile: what it will cost, what is checked first, DVC's processes and file."""
