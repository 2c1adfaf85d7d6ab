"""What people write in files, variables and options: found, read, checked, turned into frozen values of `core`.

`load.load` reads everything and returns one snapshot, or raises `problem.ConfigError` with every mistake and its
place. `explain.explain` says where each setting comes from. Nothing here reads the process environment or writes
a file; nothing outside sees YAML or Pydantic.
"""
