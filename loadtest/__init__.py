"""Load tests by Locust: real test images, every label checked."""
