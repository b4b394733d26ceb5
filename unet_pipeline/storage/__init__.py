"""List, read, write: cohorts and their ledger in object stores, folders and memory."""
