"""Ion transport: barriers along periodic paths, diffusion from dynamics or site graphs, conductivity, with error bars."""
