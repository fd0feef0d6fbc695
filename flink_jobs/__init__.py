"""The detector: a PyFlink job that counts in SQL and decides in `login_blocking`."""
