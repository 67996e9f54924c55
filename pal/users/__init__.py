"""Users: where their states lie, and how answers move the belief about one of them."""
