"""CP-NAS: Algorithm 9 with the Child-Parent indicator, and BNAS-dagger, which is its beta_P = 0."""
