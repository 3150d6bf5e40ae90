"""Whose token is it, and what may they see."""
