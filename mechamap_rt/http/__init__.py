"""The HTTP side of the port: the backend's API, health, and the console."""
