"""How the node fares, for those who watch over it: health and metrics on its HTTP port."""
