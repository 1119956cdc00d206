"""From a dataset to batches on the host: sources, the order of examples, decoding and cropping. No JAX here."""
