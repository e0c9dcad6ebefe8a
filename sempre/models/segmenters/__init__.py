"""The networks that are fine-tuned to segment, and their files: dense, Mask R-CNN, and the U-Net that refines."""
