"""What the rooms of the gateway hand to each other. It imports none of them."""
