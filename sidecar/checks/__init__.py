"""The products whose session-check endpoints are answered, one file each over one flow.

A new one is a module with a Dialect, and one line in `app.py`, which knows what each is made of.
"""
