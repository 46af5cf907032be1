"""Who does the steps of a training: PyTorch, the sparse kernels, or both together."""
