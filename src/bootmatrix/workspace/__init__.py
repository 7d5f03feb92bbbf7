"""The Python API behind the command line: settings, plans, runs."""
