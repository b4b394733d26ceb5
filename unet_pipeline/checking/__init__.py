"""What the job ``check`` does with a doubtful case: fixed files, and pictures of the pair."""
