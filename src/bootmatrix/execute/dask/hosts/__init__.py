"""Hosts by SSH: connection, tool, worker, supervision."""
