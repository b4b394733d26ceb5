"""Segment archives of medical volumes with U-Net and UNet++ on a Dask cluster."""

__version__ = "0.1.0"
