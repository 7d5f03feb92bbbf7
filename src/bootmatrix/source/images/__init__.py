"""Container images from elsewhere: registries, a Docker engine, OCI layouts, archives, plain root trees.

A source gives descriptors and the bytes that belong to them (`blobs.py`); what they mean is the same for all
(`pull.py`): an index leads to the manifest of a platform, that to a configuration and to layers, and each layer is
unpacked once into the store (`layers.py`).
"""
