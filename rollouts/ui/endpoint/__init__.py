"""The page of an endpoint, and the list of them."""
