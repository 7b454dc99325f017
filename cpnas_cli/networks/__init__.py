"""What a genotype becomes: shapes, operations, cells, and the network, as Child and as Parent."""
