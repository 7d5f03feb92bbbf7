"""Searches for the first kernel, of the archive or of a git tree, on which a spec has another verdict."""
