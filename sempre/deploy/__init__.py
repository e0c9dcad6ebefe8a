"""Segmentation on the microscope's PC: bundles on ONNX Runtime, without PyTorch."""
