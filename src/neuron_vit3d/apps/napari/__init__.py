"""The napari plugin: segment and trace, correct, teach. What needs no window is in modules that import no napari."""
