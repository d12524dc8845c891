"""Training: recipes, the loop, runs that resume, and their pictures."""
