"""Where masks come from, and what they leave of a network. A mask itself is :mod:`safs.masks`."""
