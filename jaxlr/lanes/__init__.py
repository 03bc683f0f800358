"""Many optima in one program."""
