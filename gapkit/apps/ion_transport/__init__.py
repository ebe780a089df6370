"""Ion transport: barriers along periodic paths, diffusion by dynamics or on site graphs, conductivity."""
