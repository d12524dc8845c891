"""`python -m tests.hostile`: hostile clients and failing machines, and what the service must keep up against them."""
