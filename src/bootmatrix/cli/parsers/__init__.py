"""Options of all commands. Imports nothing that only the commands need."""

from __future__ import annotations

from bootmatrix.cli.parsers import ci, clouds, files, guests, kernel_test, results, running, trial, upkeep

ADDERS = {
    "try": trial.add_try,
    "new": trial.add_new,
    "matrix": running.add_matrix,
    "plan": running.add_plan,
    "run": running.add_run,
    "build": running.add_build,
    "validate": files.add_validate,
    "arch": files.add_arch,
    "kernels": files.add_kernels,
    "kernel-test": kernel_test.add_kernel_test,
    "fetch": running.add_fetch,
    "lock": running.add_lock,
    "report": results.add_report,
    "judge": results.add_judge,
    "bisect": running.add_bisect,
    "runs": results.add_runs,
    "history": results.add_history,
    "compare": results.add_compare,
    "merge": ci.add_merge,
    "announce": ci.add_announce,
    "accept": upkeep.add_accept,
    "prune": results.add_prune,
    "cache": upkeep.add_cache,
    "signoff": results.add_signoff,
    "serve": results.add_serve,
    "schema": files.add_schema,
    "doctor": files.add_doctor,
    "push": clouds.add_push,
    "cloud": clouds.add_cloud,
    "cost": clouds.add_cost,
    "hosts": clouds.add_hosts,
    "exec": guests.add_exec,
    "shell": guests.add_shell,
    "cp": guests.add_cp,
    "forward": guests.add_forward,
    "guests": guests.add_guests,
    "completion": trial.add_completion,
}
"""Functions that add a command's options, by command, in the order of the help."""
