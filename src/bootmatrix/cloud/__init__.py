"""Places beside QEMU here: an engine, and clouds (docs/where-to-run.md).

    push ── start ── console ── stop        sweep: whatever a killed run left

Everything that is made in a place has a label or tag of bootmatrix, and is removed when the run ends.
"""
