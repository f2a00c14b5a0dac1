"""The fault harness: a whole node is struck again and again, and nothing may be lost, sent twice, stuck or untold."""
