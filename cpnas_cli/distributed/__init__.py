"""Several processes and devices: who this one is, how they start, and what they do together."""
