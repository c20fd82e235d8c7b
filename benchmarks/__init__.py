"""What jobsup costs and how fast it is, beside plain loops and other job queues in the same run."""
