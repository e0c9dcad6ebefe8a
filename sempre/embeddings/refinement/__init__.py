"""Heat maps of frozen embeddings, and the U-Net that makes better masks of them."""
