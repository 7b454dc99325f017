"""What 1 bit saves: counted, against a baseline; and what is measured with: times, and the memory of processes."""
