"""What families that draw share: reading a pipeline's folder, samplers, the denoising of latents, VAEs.

The networks are diffusers' and transformers'; the loop, its steps and their arithmetic are ours. Both libraries are
imported when a model is loaded, and not before.
"""
