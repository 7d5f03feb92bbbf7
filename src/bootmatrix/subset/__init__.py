"""Parts of a plan: shards, patterns, budgets, and cells that failed before. Pure."""
