"""What an author asks of a rules file: tests, explanations, doubts, and the commands that print them."""
