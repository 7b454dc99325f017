"""PC-DARTS over the operations of the 1-bit Child."""
