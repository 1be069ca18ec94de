"""What happens by itself: sensors that register, launch and watch."""
