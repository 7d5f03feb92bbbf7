"""The memory behind the runs: an index of them, what became of each cell over time, and how two runs differ."""
