"""The HTTP service: documents in, JSON with confidences out, and a page to look at them and correct them."""
