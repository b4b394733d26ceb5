"""Networks, and bundles: the folders that hold a network, its weights and its preprocessing."""
