"""The unary operators that a network's activation slots can hold; importing it registers them."""

from safs.operators import candidates, others
from safs.operators.base import OPERATORS, Operator, label, operator

__all__ = ["OPERATORS", "Operator", "candidates", "label", "operator", "others"]
