"""Where work runs. Executors are handed callables and know nothing of volumes or networks."""
