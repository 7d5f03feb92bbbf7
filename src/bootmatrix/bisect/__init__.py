"""Searches for the first kernel or commit that changes a spec's verdict."""
