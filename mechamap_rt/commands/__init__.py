"""What clients may ask for, the same over every protocol."""
