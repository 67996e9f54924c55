"""The command line `pal`."""
