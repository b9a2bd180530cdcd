"""Starting runs elsewhere: `humpback launch` makes a TPU slice, runs one command on all its workers and resumes it.

The verbs read one small settings file. They need no accelerator and no JAX where they are typed, only the command line
tools of the backend. It is part of the package, not a folder of scripts, so that an installed `humpback` has it too.
"""
