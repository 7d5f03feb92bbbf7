"""The host's side of the agent in a guest: commands, files, connections."""
