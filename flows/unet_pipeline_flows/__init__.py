"""Prefect flows: the only place that knows Prefect. They wire, and never compute."""
