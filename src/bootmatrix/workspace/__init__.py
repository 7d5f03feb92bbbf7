"""The application behind the command line: settings, plans, runs. `import bootmatrix` offers it."""
