"""How the weights come to be: pairs, collimation physics, CT projections, training, evaluation."""
