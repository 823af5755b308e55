"""Make a pretrained network fit a real device."""
