"""Who may vouch for a request, one file each."""
