"""What the experiment costs: measured, extrapolated, beside the paper's Table 3, and over time."""
