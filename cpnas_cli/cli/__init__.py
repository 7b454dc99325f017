"""The command line: one file per command; the only place with Typer, Rich and print."""
