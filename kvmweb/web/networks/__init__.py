"""Virtual networks: the list, the page of one with its tabs, and the forms."""
