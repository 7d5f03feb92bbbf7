"""Projects that bootmatrix writes, of a user's thing or an example."""
