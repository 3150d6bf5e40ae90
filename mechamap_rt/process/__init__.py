"""The processes of a host: the master, its workers, and what an operator may ask of them."""
