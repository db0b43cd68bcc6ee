"""Makes the model of the local embedder: sources, pairs, first vectors, training. Nothing of it runs in the product."""
