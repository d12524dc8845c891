"""What TorchServe loads: adapters from its contract to the core."""
