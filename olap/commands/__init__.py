"""The commands of this stage: parse, one call, print."""
