"""Which model, and which depth of it: scored on a cohort by the path of a nightly run."""
