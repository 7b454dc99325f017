"""What 1 bit saves: estimated, packed into a file, run, and measured."""
