"""What the job ``check`` does with a doubtful case: mended files, and pictures of the pair."""
