"""Content-addressed files, records, locks, shared by processes.

    blobs/sha256/<xx>/<digest>   files, read-only; the name is the content's digest
    memo/<kind>/<digest of key>  records; the first line is the digest of the rest
    partial/<digest>             interrupted downloads, which can be resumed
    temp/, locks/                files of running processes

All changes are atomic. A killed process leaves at most a temporary file. The next process that opens
the store removes it.
"""

from bootmatrix.store.host_faults import check_holds_nothing_else, check_trusted, host_faults, is_cache
from bootmatrix.store.locks import temporary_folder
from bootmatrix.store.records import TEXT, Codec, Memos, model_codec
from bootmatrix.store.store import (
    COPY_BYTES,
    PARTIAL_MAX_AGE_S,
    Store,
    Writer,
    default_cache,
    healed,
    sha256_of,
    touch,
)
