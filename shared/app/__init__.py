"""What turns layers into a program: the command line, training on Lightning, the report, the doctor."""
