"""From the bytes of a request to pixels: `bodies` is the way in."""
