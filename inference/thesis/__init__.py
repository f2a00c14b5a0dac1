"""The method of the thesis (Nguyen Toan Le, TU Munich), piece by piece; docs/explanation/thesis.md tells the story.

`vae` reads the masked collimated picture, `texture` makes the condition of what it read, `palette` is the denoiser,
`schedule` its noise levels and `sampler` its draw; `checkpoints` reads the weights of the thesis's own code,
`profile` and `reconstruct` make all of it a model to use. It stands apart from the product's own model.
"""
