"""The command line: ``main`` picks a subcommand, one module each."""
