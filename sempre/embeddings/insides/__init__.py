"""What goes on inside a network: feature maps and class activation."""
