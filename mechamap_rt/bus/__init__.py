"""How publications travel between processes, and the node that joins them with the connections of this one."""
