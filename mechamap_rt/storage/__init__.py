"""The site's rows: databases behind one interface, and the questions asked of them."""
