"""Projects written by bootmatrix: spec, image recipe and matrix of a user's thing, or of an example."""
