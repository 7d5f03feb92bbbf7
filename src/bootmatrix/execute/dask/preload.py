"""Dask's preload of workers that others start.

`dask worker … --preload bootmatrix.execute.dask.preload`

The file that BOOTMATRIX_WORKER names has the worker's settings (model/remote.py), as JSON.
"""

import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from distributed import Worker

from bootmatrix.errors import InputError
from bootmatrix.execute.dask.exchange import SharedFolder
from bootmatrix.execute.dask.offers import make_offer
from bootmatrix.execute.dask.security import configure
from bootmatrix.execute.dask.task import PLUGIN
from bootmatrix.execute.dask.worker import StoreLimits, open_runner, set_offer, work_folder
from bootmatrix.model.remote import SharedWorkerSettings

VARIABLE = "BOOTMATRIX_WORKER"
_OPEN = AsyncExitStack()


async def dask_setup(worker: Worker) -> None:
    """Make a Dask worker run cells. Raises InputError on its settings."""
    configure()
    path = os.environ.get(VARIABLE)
    if not path:
        raise InputError(f"{VARIABLE} is not set: it must name the worker's settings")
    settings = SharedWorkerSettings.model_validate_json(Path(path).read_bytes())
    offer = make_offer(settings.host or socket.gethostname(), settings.cores, settings.slots, settings.labels)
    offer = offer.model_copy(update={"slots": min(offer.slots, worker.state.nthreads)})
    cache = Path(settings.cache).expanduser().absolute()
    folder = _OPEN.enter_context(work_folder(cache, offer.instance))
    exchange = SharedFolder(settings.exchange)
    runner = await _OPEN.enter_async_context(
        open_runner(cache, offer, exchange, folder, StoreLimits(settings.store_mib))
    )
    set_offer(worker, offer)
    await worker.plugin_add(plugin=runner, name=PLUGIN)


async def dask_teardown(_worker: Worker) -> None:
    """Stop all guests, and remove the worker's folder."""
    await _OPEN.aclose()
