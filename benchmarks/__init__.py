"""Speed beside what a user would pick instead, both sides measured in one run and given as ratios."""
