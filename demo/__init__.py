"""What `make demo` shows: a real nginx, the sidecar, and a page that says who it was told is asking."""
