"""Repositories of other distributions: a module per format."""
