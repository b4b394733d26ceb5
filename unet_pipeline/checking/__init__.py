"""The audit: the gate's word on every case of a cohort, as a table, a report, and mended files."""
