"""A survey: the archive's packages, with their own tests, on machines and kernels."""
