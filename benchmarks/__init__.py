"""What jobsup costs and how fast it is, as ratios to a plain loop on the same database in the same run."""
