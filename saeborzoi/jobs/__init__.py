"""Jobs of heavy stages: the document that describes one, and where a result came from."""
