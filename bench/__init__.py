"""What a check costs, measured: `make bench`."""
