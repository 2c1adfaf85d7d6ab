"""The command line: `gateway serve` and its neighbours."""
