"""`bootmatrix cache`: what the cache holds, and its reduction."""

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED
from bootmatrix.cli.output import print_json, say
from bootmatrix.report.history_text import columns
from bootmatrix.report.units import size
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
    rows = [(kind, f"{count} files", size(taken)) for kind, (count, taken) in totals.items()]
    say(*columns(rows))
    free = f", {size(free_bytes(folder))} free on its disk" if folder.is_dir() else ""
    say(f"{folder}: {size(total)} of {size(limit) if limit else 'any size'}{free}")
    return EXPECTED


def run_prune(args: argparse.Namespace) -> int:
    """Remove the least recently used files."""
    keep = parse_size(args.keep)
    store = Store(options.workspace(args).cache_folder)
    drop_joined(store)
    done = trim(store, keep)
    say(f"removed {done.removed} files, {size(done.removed_bytes)}; {size(done.kept_bytes)} kept")
    if done.busy_bytes:
        say(f"of these, {size(done.busy_bytes)} were used within the last hour while other processes use the cache")
    return EXPECTED
