"""What the node costs, in time and memory; `make bench` runs each file. Nothing here passes or fails by a clock."""
