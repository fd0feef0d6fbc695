"""The whole system on one machine without Docker: starts it, keeps it up, stops it."""
