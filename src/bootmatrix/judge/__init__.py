"""Judging of boots."""

from bootmatrix.judge.verdict import judge

__all__ = ["judge"]
