"""Pictures, pages and tables of a run, made from plain records."""
