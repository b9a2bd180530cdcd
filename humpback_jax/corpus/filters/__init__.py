"""One small function per reason why a section is not a segment."""
