"""What people look at: a page in one file that needs nothing but itself, and drawings for it."""
