"""What works round JAX and its compiler: each module says what it is for, and what would make it superfluous."""
