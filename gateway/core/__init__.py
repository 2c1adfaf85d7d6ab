"""Pure decisions and definitions. Standard library only: no clock, no I/O, no `await`, hence no locks."""
