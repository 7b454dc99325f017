"""What is shown while a command works, on standard error."""
