"""Container images from other sources, and their import into the store.

A source yields descriptors and their bytes (`blobs.py`). Their meaning is the same for all (`pull.py`): an index lists
the manifest of a platform, which lists a configuration and layers. Each layer is unpacked once into the store
(`layers.py`).
"""
