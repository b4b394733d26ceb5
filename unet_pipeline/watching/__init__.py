"""Numbers of a run for who watches it: what a monitoring system asks for, or finds in a file."""
