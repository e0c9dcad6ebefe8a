"""The plugin for napari: segment a layer, save it as labelled, fine-tune on what was saved."""
