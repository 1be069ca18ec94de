"""What is computed of an SAE's nodes: strongest positions, seqlets, overlaps, embedding."""
