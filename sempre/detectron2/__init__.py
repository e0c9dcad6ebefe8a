"""These backbones in detectron2, for laboratories that work there."""
