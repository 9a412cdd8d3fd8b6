"""Networks: the N-dimensional U-Net, its parts, and adapters for other people's."""
