"""A bundle's network on ONNX Runtime, from a micrograph to its particles."""
