"""The protocols: a codec for each, from a request to images and from probabilities to an answer.

All protocols decode with the core, share one queue and raise the same errors; only their formats differ.
"""
