"""The command line `saeborzoi`."""
