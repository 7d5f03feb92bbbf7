"""What bootmatrix costs: `make bench`, or `python -m benchmarks --help`."""
