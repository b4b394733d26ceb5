"""What the program does, a module for each job: the commands and the flows call these."""
