"""The commands, a file each; none imports JAX before it is run."""
