"""The tests of jobsup and spawnpool, and what they share."""
