"""Figures of genotypes, experiments and measured speed-ups, drawn from records; the only place with matplotlib."""
