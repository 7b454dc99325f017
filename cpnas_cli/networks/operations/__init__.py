"""The candidate operations of an edge: one object each, a file for those that are built alike."""
