"""``python -m unet_pipeline``."""

from unet_pipeline.cli import main

if __name__ == "__main__":
    main()
