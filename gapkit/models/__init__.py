"""The sparse Gaussian process: sparse points, basis, observations, triangles, levels, posterior."""
