"""What pretraining learns by: a batch in, its losses out."""
