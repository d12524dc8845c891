"""What clients speak: a module for each protocol, from a request to images, and from probabilities to an answer.

All of them decode by the core, wait in the same queue and raise the same errors; only the words differ.
"""
