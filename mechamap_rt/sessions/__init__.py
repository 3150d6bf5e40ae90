"""The session store: what is counted over the whole cluster."""
