"""The connections to Redis: where it is, how it is spoken to, and how they come back when they are lost."""
