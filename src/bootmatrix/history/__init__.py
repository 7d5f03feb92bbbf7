"""History of runs: an index, each cell's verdicts over time, and comparisons."""
