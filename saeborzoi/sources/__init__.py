"""What the settings name, opened for the science: windows, shards, a model, and their positions."""
