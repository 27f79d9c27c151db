"""A GPU that only exists as shapes, types and devices of tensors: what runs there is checked, but not computed."""
