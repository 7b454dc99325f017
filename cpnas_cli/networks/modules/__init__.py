"""What a network is made of in torch: activations of a node, convolutions, batch norm, and the blocks made of them."""
