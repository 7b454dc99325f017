"""Child-Parent architecture search for 1-bit convolutional networks."""

__version__ = "0.1.0"
