"""The genotypes that come with the package: found by our own searches, each with its origin in its provenance."""
