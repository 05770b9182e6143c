"""The commands of the lakehouse: parse the options, make one call, print the result."""
