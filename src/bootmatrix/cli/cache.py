"""`bootmatrix cache`: what the cache holds, and its reduction."""

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import print_json, say
from bootmatrix.report.history_text import columns
from bootmatrix.report.units import binary_size
from bootmatrix.store import Store
from bootmatrix.store.trim import drop_joined, free_bytes, limit_bytes, parse_size, trim, usage


def run(args: argparse.Namespace) -> int:
    """Print what takes how much."""
    folder = options.workspace(args).cache_folder.expanduser()
    totals = usage(folder) if folder.is_dir() else {}
    total = sum(taken for _, taken in totals.values())
    limit = limit_bytes()
    if args.json:
        contents = {kind: {"files": count, "bytes": taken} for kind, (count, taken) in totals.items()}
        print_json({"folder": str(folder), "limit": limit, "bytes": total, "contents": contents})
        return EXPECTED
    rows = [(kind, _files(count), binary_size(taken)) for kind, (count, taken) in totals.items()]
    say(*columns(rows))
    free = f", {binary_size(free_bytes(folder))} free on its disk" if folder.is_dir() else ""
    say(f"{folder}: {binary_size(total)} of {binary_size(limit) if limit else 'any size'}{free}")
    return EXPECTED


def run_prune(args: argparse.Namespace) -> int:
    """Remove the least recently used files."""
    keep = parse_size(args.keep)
    folder = options.workspace(args).cache_folder.expanduser()
    if not folder.is_dir():
        say(f"{folder}: not a folder, so there is nothing to remove")
        return EXPECTED
    store = Store(folder)
    drop_joined(store)
    done = trim(store, keep)
    say(f"removed {_files(done.removed)}, {binary_size(done.removed_bytes)}; {binary_size(done.kept_bytes)} kept")
    if done.busy_bytes:
        busy = binary_size(done.busy_bytes)
        say(f"of these, {busy} were used within the last hour while other processes use the cache")
    return EXPECTED


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"
