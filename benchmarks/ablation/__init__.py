"""What each part of the model brings, and what more data does: trainings under one budget, with narrow networks."""
