"""The commands of bench: parse the arguments, make one call, print the result."""
