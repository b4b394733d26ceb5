"""Look inside a network: what each layer knows, and what is lost without it."""
