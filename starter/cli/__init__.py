"""The `enforce` command line."""
