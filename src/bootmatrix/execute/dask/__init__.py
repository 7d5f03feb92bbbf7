"""The executor `dask`: cells on many machines, scheduled by Dask `distributed`.

Dask moves JSON text alone. Files go by SFTP or a shared folder, and are known by digest. Every connection is TLS with
a key of both ends, which is made for one run.
"""
