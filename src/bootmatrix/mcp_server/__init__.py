"""A server of the Model Context Protocol: the Python API as tools."""
