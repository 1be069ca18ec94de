"""What an SAE and its nodes do in the sequence model: measured with the SAE spliced in."""
