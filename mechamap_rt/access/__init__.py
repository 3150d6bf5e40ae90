"""Whether those who are here may stay, and hear what they hear."""
