"""Parameters, typed and checked before anything runs."""
