"""One short entry per DVC stage."""
