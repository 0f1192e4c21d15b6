"""GC content for qbio: an example of a package that adds an op and a command."""
