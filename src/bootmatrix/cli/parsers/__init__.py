"""Options of all commands. Imports nothing that only the commands need."""

from bootmatrix.cli.arguments import COMMANDS
from bootmatrix.cli.parsers import ci, clouds, files, guests, kernel_test, results, running, trial, upkeep

_ORDER = (
    "try new matrix plan run build validate arch kernels kernel-test fetch lock report judge bisect runs history "
    "compare merge announce accept prune cache signoff serve schema doctor push cloud cost hosts exec shell cp "
    "forward guests completion"
)
ADDERS = {name: COMMANDS[name] for name in _ORDER.split()}
"""Functions that add a command's options, by command, in the order of the help."""
