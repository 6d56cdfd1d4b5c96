"""A host's own network: what is there, the forms that change it, and plans to apply."""
