"""The gin files; this marker lets gin and importlib find them by name, installed or in a checkout."""
