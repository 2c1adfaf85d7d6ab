"""A llama-server for machines that have none."""
