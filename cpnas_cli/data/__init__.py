"""Images: data sets by name, folders, decoding, the cache of decoded images, and batches."""
