"""Records as text for people, on standard output."""
