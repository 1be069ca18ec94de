"""What is made: the assets, their partitions, checks and automation."""
