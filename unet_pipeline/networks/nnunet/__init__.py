"""Trained models of nnU-Net (version 2), run from the folders that its training writes."""
