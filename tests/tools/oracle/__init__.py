"""Compares documents by brute force, over all subjects of random small worlds, and checks the package with it.

`answer` has the docs' rules, `subjects` everybody to whom they are applied, and `world` makes documents. These three
import nothing of the package. Only `runner` does, which asks both.
"""

from .answer import Result, Subject, result
from .runner import Finding, Tally, run
from .subjects import find_difference, holders

__all__ = ["Finding", "Result", "Subject", "Tally", "find_difference", "holders", "result", "run"]
