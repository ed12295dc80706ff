"""Files of weights as other programs write them: what kind each is, and its arrays by name. Nothing in a file is ever run."""
