"""A worker of `--executor dask`, a process that a run starts and holds."""

import os

from bootmatrix.execute.dask.worker import main

if __name__ == "__main__":
    # At once: nothing that a library left running may keep a worker that has ended.
    os._exit(main())
