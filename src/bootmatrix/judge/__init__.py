"""What was seen of a boot, judged."""

from bootmatrix.judge.verdict import judge

__all__ = ["judge"]
