"""A run's folder: how it is opened, what it records, and until when it may work."""
