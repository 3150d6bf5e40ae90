"""What goes over the wire, without any I/O: bytes in, events out, and back."""
