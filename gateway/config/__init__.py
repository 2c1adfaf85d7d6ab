"""What people write in files: found, read, validated, and turned into the frozen values of `core`."""
