"""The commands `ask` and `sql`: they parse the options and make one call."""
