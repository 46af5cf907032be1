"""SAFS for a network of one's own: the public functions of :mod:`safs`."""
