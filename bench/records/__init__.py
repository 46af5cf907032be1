"""Records of runs, by themselves and together: their schema, chains, traces and files."""
