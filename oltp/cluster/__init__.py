"""Postgres servers that this program starts, finds and stops."""
