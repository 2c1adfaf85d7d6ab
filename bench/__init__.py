"""Measurements of the gateway: `make bench`, or `python -m bench`. Nothing here passes or fails; it prints numbers."""
