"""The processes of the server: the supervisor, its gateways, and what operators ask of them."""
