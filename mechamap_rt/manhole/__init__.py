"""The manhole: a Python shell in the running processes. SSH ends in the master; the shell runs where it looks at."""
