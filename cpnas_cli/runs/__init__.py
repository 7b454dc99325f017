"""A run: its folder, lock, journal, opening, environment and deadline."""
