"""The Python client of the service."""

from fashion_mnist.client.http import AsyncClient, Client, Failure, File, Prediction

__all__ = ["AsyncClient", "Client", "Failure", "File", "Prediction"]
