"""Input files to pages: what a file is, its records, their text."""
