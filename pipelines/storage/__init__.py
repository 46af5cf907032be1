"""What lies on disk: artefacts, scratch, folds, and the digests that name and check them."""
