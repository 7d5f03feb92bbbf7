"""Repositories of distributions other than the archive: one module for each format, behind one protocol."""
