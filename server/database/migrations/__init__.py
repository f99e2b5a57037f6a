"""How a database gets from one version of Atelier to the next."""
