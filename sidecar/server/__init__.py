"""The process: its listeners, its protocol, its beginning and its end."""
