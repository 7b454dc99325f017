"""Files as they lie on disk: JSON documents with a schema, genotypes, tensors."""
