"""Markup to blocks of text, which of them are content, and the sections they make."""
