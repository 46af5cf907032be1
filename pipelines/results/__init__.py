"""Results in the open: records, landscapes and races, and what is made and said of them."""
