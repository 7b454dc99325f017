"""Figures and pages of genotypes, runs and experiments, made from records; the only place with matplotlib and HTML."""
