"""Boot every spec × architecture × kernel under emulation and say what happened."""

__version__ = "0.1.0"
