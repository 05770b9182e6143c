"""The commands of this package. Each parses its arguments, makes one call and prints the result."""
