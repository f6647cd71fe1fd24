"""Who starts and steers: the `enforce` command line, the monitor, the embedded servers."""
