"""The few networks the papers use and torchvision lacks, and finding any network and its weights by name."""
