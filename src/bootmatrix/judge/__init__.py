"""Judging of boots."""

from bootmatrix.judge.verdict import judge
